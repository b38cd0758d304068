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


EXPERIMENT = """
title: Swept
grids:
- tasks: [in_hospital_mortality]
  models: [{{lstm: {{units: 4}}}}]
  methods: [{methods}]
  stopping: false
training: {{max_epochs: 4, batch_size: 16, learning_rate: 0.01, normalizer: fitted}}
"""
METHODS = ("none", "dropout", "{itps: {tau: 1.0e-4}}")


@pytest.fixture(scope="package")
def sweep(store, tmp_path_factory):
    """(name, methods) → the command that runs their trials, without the work folder."""
    folder = tmp_path_factory.mktemp("experiments")

    def command(name, *methods):
        file = folder / f"{name}.yaml"
        file.write_text(EXPERIMENT.format(methods=", ".join(methods)))
        given = ("--config", file, "--store", store, "--runner", "in_process")
        return ("sweep", *given, "--out")

    return command


@pytest.fixture(scope="package")
def swept(sweep, tmp_path_factory):
    """The work folder of an undisturbed sweep of all methods."""
    work = tmp_path_factory.mktemp("swept") / "work"
    done = run(*sweep("all", *METHODS), work)
    assert done.returncode == 0, done.stderr
    return work


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
