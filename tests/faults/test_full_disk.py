"""A full disk: a sentence that says so, nothing lost, and the same result once there is room."""

import os
import subprocess

import pytest

from mimic_reg_pipelines.tracking import client
from tests.faults.conftest import METHODS
from tests.faults.kills import of_run, of_sweep, sqlite_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path):
    """A disk of its own: made, grown and removed by its size in kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k,mode=700", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a small disk, which only root may mount: {done.stderr.strip()}")

    def resize(size):
        option = f"remount,size={size}k"
        subprocess.run(["mount", "-o", option, str(place)], check=True)

    yield place, resize
    subprocess.run(["umount", str(place)], check=True)


FULL = "The disk is full: could not write to"


def assert_said(done):
    assert done.returncode == 1, done.stderr
    assert FULL in done.stderr
    assert "Free some space, then run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_keeps_its_run_and_goes_on(run, training, undisturbed, disk):
    place, resize = disk
    for size in (100, 180):  # at the first checkpoint, and later
        resize(size)
        assert_said(run(*training, "--out", place / "run"))
        assert (place / "run" / "trial.json").stat().st_size > 0
    resize(10_000)
    done = run(*training, "--out", place / "run")
    assert done.returncode == 0, done.stderr
    assert of_run(place / "run") == of_run(undisturbed)


def test_training_stops_at_a_file_that_is_too_large(run, training, undisturbed, tmp_path):
    assert_said(run(*training, "--out", tmp_path / "run", largest_file=20_000))
    assert run(*training, "--out", tmp_path / "run").returncode == 0
    assert of_run(tmp_path / "run") == of_run(undisturbed)


def test_a_report_is_the_old_one_or_the_new_one(run, undisturbed, tmp_path):
    page = tmp_path / "pages" / "report.html"
    page.parent.mkdir()
    page.write_text("the old one")
    report = ("report", undisturbed, "--out", page)
    assert_said(run(*report, largest_file=10_000))
    assert page.read_text() == "the old one"
    assert run(*report).returncode == 0
    assert "<html" in page.read_text()


def used(place):
    """How much of a disk is taken, in kB."""
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024


def test_a_sweep_whose_disk_is_full_loses_nothing(run, sweep, swept, disk):
    """MLflow's database and artifacts are on that disk, too."""
    place, resize = disk
    command = (*sweep("all", *METHODS), place / "work")
    done = run(*command)  # no room for MLflow's empty database
    assert done.returncode == 1
    assert "full" in done.stderr
    resize(5_000)
    uri = client.database(place / "work")
    assert run(uri, function=client.prepare).returncode == 0
    resize(used(place) + 150)
    done = run(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Failed:" in done.stderr  # a sentence, after what SQLAlchemy logs by itself
    assert "disk is full" in done.stderr
    kept = {p.parent.name for p in place.glob("work/runs/*/done.json")}
    resize(100_000)
    done = run(*command)
    assert done.returncode == 0, done.stderr
    results = [of_sweep(w, sqlite_rows(w / "mlflow.db")) for w in (place / "work", swept)]
    assert results[0] == results[1]
    assert kept <= results[0][0].keys()
