"""Commands of mimic-reg in processes that are forked from one with all imports.

A command started anew spends 4 to 8 CPU seconds on imports before it does anything. A forked one is
a process like it (it can be killed, and has limits and a group of its own) without that.
"""

import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import pytest

ROOT = Path(__file__).resolve().parents[1]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.forked_imports"])


class Forked:
    """A running function, with what is needed of `subprocess.Popen`.

    largest_file: bytes from which on writing fails (EFBIG)
    """

    def __init__(self, function, *given, cwd, output, error, largest_file=None):
        with pytest.MonkeyPatch.context() as patch:  # for the process that forks, begun at first
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT}/pipelines")
            inside = function, given, str(cwd), str(output), str(error), largest_file
            self._process = _context.Process(target=_call, args=inside)
            self._process.start()

    def wait(self, timeout):
        """Return its exit status; kill it and raise TimeoutExpired if it does not end in time."""
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutExpired(str(self._process), timeout)
        return self._process.exitcode


def start(*arguments, cwd):
    """A command of mimic-reg whose output is appended to `output` in its folder."""
    return Forked(
        _command, *map(str, arguments), cwd=cwd, output=cwd / "output", error=cwd / "output"
    )


def run(*arguments, folder, function=None, largest_file=None):
    """A finished command of mimic-reg, or a function; `folder` keeps its output."""
    function, given = (function, arguments) if function else (_command, map(str, arguments))
    output, error = (Path(folder, f"{time.monotonic_ns()}.{name}") for name in ("out", "err"))
    begun = Forked(
        function, *given, cwd=ROOT, output=output, error=error, largest_file=largest_file
    )
    code = begun.wait(300)
    return CompletedProcess(arguments, code, output.read_text("utf-8"), error.read_text("utf-8"))


def _call(function, given, cwd, output, error, largest_file):
    os.setsid()
    os.chdir(cwd)
    for file, number in ((output, 1), (error, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    function(*given)


def _command(*arguments):
    from mimic_reg.cli import main

    sys.argv = ["mimic-reg", *arguments]
    main()
