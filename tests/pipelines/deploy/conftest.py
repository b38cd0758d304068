"""A work folder with two sweeps, and MLflow's servers on it: starting one takes 15 CPU seconds."""

import contextlib
import re
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import pytest

from mimic_reg_pipelines.flows.report import conclude
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import experiment
from tests.postgresql import free_port

PASSWORD = "p%:ä/ rather long"
TITLE = "<img src=x onerror=document.title=1> *a* & [b](http://x)"
METHODS = ["none", {"dropout": {"rate": 0.2}}, {"itps": {"tau": 1e-4}}]


def swept(work, store, name, **changes):
    settings = experiment(name=name, **changes).model_copy(update={"title": TITLE})
    result = sweep(settings, work, store=store, running=Running(runner="in_process"))
    return conclude(result), result


@pytest.fixture(scope="package")
def work(empty, store, tmp_path_factory):
    """A work folder with two sweeps, the second of them in one task with the first."""
    folder = tmp_path_factory.mktemp("pages") / "work"
    folder.mkdir()
    copy_of(empty, folder)
    swept(folder, store, "other.sweep_2-x", methods=["none"], seeds=1)
    swept(folder, store, "methods", methods=METHODS, supervision=[0.5, 1.0])
    return folder


@contextlib.contextmanager
def serving(work, *options):
    """`mimic-reg ui`, and the links that it prints, by their names."""
    port = free_port()
    command = [sys.executable, "-m", "mimic_reg", "ui", "--work", str(work), "--port", str(port)]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        links, printed = {}, []
        try:
            for line in process.stdout:
                printed.append(line)
                if found := re.search(r"([\w ,-]+): (http://\S+)", line):
                    links[found[1].removeprefix("Note: ").strip()] = found[2]
                if "all sweeps" in line:
                    break
            url = f"http://127.0.0.1:{port}"
            yield SimpleNamespace(url=url, links=links, printed="".join(printed))
        finally:
            process.terminate()
            process.stdout.read()
    assert process.returncode == 0
    with pytest.raises(OSError, match="refused"):  # it has ended with its parent
        urllib.request.urlopen(url, timeout=5)


@pytest.fixture(scope="package")
def server(work):
    with serving(work) as started:
        yield started


@pytest.fixture(scope="package")
def guarded(work, tmp_path_factory):
    """The same with passwords."""
    file = tmp_path_factory.mktemp("password") / "admin"
    file.touch(mode=0o600)
    file.write_text(PASSWORD)
    with serving(work, "--password-file", str(file)) as started:
        yield started
