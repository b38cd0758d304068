"""Prefect's automations, made from a file; again and again, without doubles."""

import contextlib
from pathlib import Path
from typing import Any

from prefect.automations import Automation

from mimic_reg.settings import load_yaml


def put(file: Path) -> list[str]:
    """Make the automations of a file on the server; those of the same names give way. Their names.

    Raises:
        InputError: there is no such file, or it is not YAML.
    """
    names = []
    for content in load_yaml(file)["automations"]:
        automation = Automation(**content)
        with contextlib.suppress(ValueError):  # there is none the first time
            before: Any = Automation.read(name=automation.name)
            before.delete()
        automation.create()
        names.append(automation.name)
    return names
