"""A store, a training, and what it comes to when nothing goes wrong."""

import resource
import subprocess

import pytest

from tests.faults.kills import COMMAND, Training, environment
from tests.stores import write_store


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "s", num_subjects=60, hours=(48, 50))


@pytest.fixture(scope="package")
def target(store, tmp_path_factory):
    return Training(store, tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="package")
def training(target):
    """The command that trains, without its folder."""
    return target.command()


@pytest.fixture(scope="package")
def undisturbed(training, tmp_path_factory):
    """A run that had room and time."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(*training, "--out", folder).returncode == 0
    return folder


def run(*arguments, largest_file=None):
    """A command of mimic-reg; `largest_file`: bytes from which on writing fails (EFBIG)."""

    def limit():
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
