"""Read the numbers of the simulation from `resources/`; the modules hold its rules."""

from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MINUTE, HOUR, DAY = 60, 3600, 86_400  # seconds


def resource(name: str) -> Any:
    """Return the path of a file in `simulation/resources`."""
    return files("mimic_reg.simulation") / "resources" / name


def parameters(name: str) -> dict[str, Any]:
    """Return the content of a YAML file in `simulation/resources`."""
    return yaml.safe_load(resource(f"{name}.yaml").read_text("utf-8"))
