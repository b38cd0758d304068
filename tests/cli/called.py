"""The command, called in this process: what it prints, and its exit code."""

import io
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

from mimic_reg import cli
from mimic_reg.cli import application


def mimic_reg(*arguments):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = application.run(lambda: cli.app([*map(str, arguments)], prog_name="mimic-reg"))
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def words(text):
    """A text on one line, whatever the width of the terminal."""
    return " ".join(text.split())
