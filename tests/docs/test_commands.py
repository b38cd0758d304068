"""The commands of a page run as printed, from an empty folder, in the order given."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import BLOCK, DOCS, ROOT

PAGES = [
    "get_started.md",
    "tutorials/extract_and_prove.md",
    "tutorials/hospital_week.md",
    "tutorials/own_cohort.md",
]
FEWER_EPOCHS = ("training.max_epochs=5", "training.max_epochs=1")  # what a reader waits for


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_as_printed(page, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, module in (("mimic-reg", "-m mimic_reg"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    for block in BLOCK.finditer((DOCS / page).read_text("utf-8")):
        note = block["note"] or ""
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
        if block["kind"] != "sh" or note.startswith("not run: "):
            continue
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", block["text"].replace(*FEWER_EPOCHS)],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        expected = int(note.removeprefix("exit code ") or 0)
        assert done.returncode == expected, block["text"] + done.stdout + done.stderr
