"""The errors a user can cause or meet; the command line prints them without a traceback.

An error text says what is wrong, where, and what to do. It never quotes a row of patient data.
"""

import shlex
import sys
from pathlib import Path


class MimicRegError(Exception):
    """Something failed although the request was sound: a full disk, a lock (exit code 1)."""

    exit_code = 1


class BusyError(MimicRegError):
    """Another process writes to the folder; the same request may succeed when that one ends."""


class InterruptionError(MimicRegError):
    """Ctrl-C ended it; the text says what is kept (exit code 130, as in shells)."""

    exit_code = 130


class InputError(MimicRegError, ValueError):
    """The request or its input is wrong: a bad option, a broken file (exit code 2)."""

    exit_code = 2


def install_advice(extra: str) -> str:
    """Return the command that installs an extra of this package, as the package was installed."""
    clone = Path(__file__).parents[1]
    package = f"mimic-reg[{extra}]"
    how = [package]
    if (clone / "pyproject.toml").is_file():  # an editable installation of a clone
        how = ["--constraint", str(clone / "constraints.txt"), "--editable", f"{clone}[{extra}]"]
    return shlex.join([sys.executable, "-m", "pip", "install", *how])
