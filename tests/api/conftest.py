import linecache
import sys
from itertools import count
from types import ModuleType

import pytest

import mimic_reg as mr
from tests.stores import write_store

_numbers = count()


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A small store of simulated stays."""
    return mr.open_store(write_store(tmp_path_factory.mktemp("api") / "store"))


@pytest.fixture
def notebook(monkeypatch):
    """Run the text of a cell in a fresh `__main__`, as a notebook does; return its names."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)

    def run(text, *, source=True):
        name = f"<cell {next(_numbers)}>"
        if source:
            linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"), vars(main))
        return main

    return run
