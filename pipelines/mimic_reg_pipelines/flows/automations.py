"""Prefect's automations from a file; putting them twice makes no duplicates."""

import contextlib
from pathlib import Path
from typing import Any

from prefect.automations import Automation

from mimic_reg.settings import load_yaml


def put(file: Path) -> list[str]:
    """Put the automations of a file on the server, replacing those of the same names.

    Return their names.

    Raises:
        InputError: there is no such file, or it is not YAML.
    """
    names = []
    for content in load_yaml(file)["automations"]:
        automation = Automation(**content)
        with contextlib.suppress(ValueError):  # the first time there is none
            before: Any = Automation.read(name=automation.name)
            before.delete()
        automation.create()
        names.append(automation.name)
    return names
