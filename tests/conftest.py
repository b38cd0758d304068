"""How the tests are divided among processes: whole files, those with slow tests first."""

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadFileScheduling

# Their tests share what takes seconds to make, so one process runs them all.
TOGETHER = {
    "tests/cohorts",
    "tests/faults",
    "tests/pipelines/deploy",
    "tests/report/analyses",
    "tests/serving",
}


class Scheduler(LoadFileScheduling):
    """Files of some folders stay together."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        folder = str(PurePosixPath(file).parent)
        return folder if folder in TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduler(config, log)


def pytest_collection_modifyitems(items):
    """A file that is begun last should be a short one: else one process works and others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
