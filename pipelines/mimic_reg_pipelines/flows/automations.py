"""Prefect's automations from a file; putting them twice makes no duplicates."""

import contextlib
from pathlib import Path
from typing import Any

from prefect.automations import Automation

from mimic_reg.settings import load_yaml

_GIVEN = {"name", "description", "enabled", "trigger", "actions"}


def put(file: Path) -> list[str]:
    """Put the automations of a file on the server, replacing others of the same names.

    An equal one is left alone: with it the server would forget which runs it waits for, and one
    that is dead already would stay "running". Return their names.

    Raises:
        InputError: there is no such file, or it is not YAML.
    """
    names = []
    for content in load_yaml(file)["automations"]:
        automation = Automation(**content)
        with contextlib.suppress(ValueError):  # the first time there is none
            before: Any = Automation.read(name=automation.name)
            if before.model_dump(include=_GIVEN) == automation.model_dump(include=_GIVEN):
                names.append(automation.name)
                continue
            before.delete()
        automation.create()
        names.append(automation.name)
    return names
