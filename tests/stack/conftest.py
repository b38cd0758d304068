"""One hospital for all tests of this folder; its images stay for the next time."""

import os

import pytest

from tests.stack import engine, hospital


@pytest.fixture(scope="session")
def built():
    """The engine, the base images, and a copy of the repository."""
    if reason := engine.why_not():
        pytest.skip(reason)
    engine.prepare()


@pytest.fixture(scope="session")
def running(built):
    """The stack, set up and up; MIMIC_REG_STACK=keep leaves it, and finds it again."""
    kept = os.environ["MIMIC_REG_STACK"] == "keep"
    if not (kept and hospital.containers("setup")):
        hospital.remove()
        for line in hospital.guide("From nothing to the first report"):
            if line.startswith(("cd ", "docker compose run")):
                continue
            folder = engine.CHECKOUT if line.startswith(("docker/", "cp ")) else hospital.DOCKER
            done = hospital.shell(line, folder=folder)
            assert done.returncode == 0, f"{line}\n{done.said}"
            if line.startswith("cp "):
                hospital.configured()
            if "up --detach" in line:
                break
    yield
    if not kept:
        hospital.remove()
