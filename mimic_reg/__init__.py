"""mimic-reg: reproducible deep learning on intensive-care time series.

`import mimic_reg as mr` gives the Python interface: `mr.open_store`, `mr.fit`, `mr.compare` and the
other names of `mimic_reg.api`; `mr.methods` and `mr.models` make their settings. Each is loaded
when it is first used.

The one effect of importing this package: threads of torch sleep while they wait for work. By
default they spin, which is many times slower where other programs use the same cores. OpenMP reads
these variables when torch is loaded, so they are set here, before any module can load it. They hold
for processes started from here as well. If torch was loaded before, they only hold for those.
What the user has set stays: OMP_WAIT_POLICY, GOMP_SPINCOUNT (GNU), KMP_BLOCKTIME (Intel, LLVM).
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # passive threads of Intel's still spin for 200 ms

if TYPE_CHECKING:
    from mimic_reg import methods as methods
    from mimic_reg import models as models
    from mimic_reg.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in ("methods", "models"):
            return import_module(f"{__name__}.{name}")
        api = import_module(f"{__name__}.api")
        if name in api.__all__:
            return getattr(api, name)
        from mimic_reg.settings.nearest import suggest

        hint = "" if name.startswith("_") else f" {suggest(name, __dir__())}"
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{hint}")


def __dir__() -> list[str]:
    from mimic_reg.api import __all__ as names

    return [*names, "methods", "models"]
