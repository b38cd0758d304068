"""The command `mimic-reg`: how it starts. `application` has its commands."""

import os
import signal
import sys
from typing import Any


def main() -> None:
    """Run the command: exit code 0, 1 (failed), 2 (bad usage or input) or 130 (Ctrl-C)."""
    os.umask(0o077)  # files about patients are for their owner only
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)  # while a library is imported it may lose an exception
    from mimic_reg.cli import application

    application.add_plugins()
    signal.signal(signal.SIGINT, before)
    sys.exit(application.run(lambda: application.app(prog_name="mimic-reg")))


def _leave(number: int, frame: Any) -> None:
    os.write(2, b"Interrupted. Nothing was done.\n")
    os._exit(128 + number)


def __getattr__(name: str) -> Any:
    """Return the commands, loaded when they are first used: they take most of the start."""
    if name == "app":
        from mimic_reg.cli.application import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
