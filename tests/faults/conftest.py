"""A store, a training, and what it comes to when nothing goes wrong."""

from functools import partial

import pytest

from tests import forked
from tests.faults.kills import Training
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
def run(tmp_path_factory):
    """A finished command of mimic-reg in a process of its own: `forked.run`."""
    return partial(forked.run, folder=tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="package")
def undisturbed(run, training, tmp_path_factory):
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
def swept(run, sweep, tmp_path_factory):
    """The work folder of an undisturbed sweep of all methods."""
    work = tmp_path_factory.mktemp("swept") / "work"
    done = run(*sweep("all", *METHODS), work)
    assert done.returncode == 0, done.stderr
    return work
