"""Get started and the tutorials run as they are written, in order, from an empty folder.

They run in this process, since importing torch for every command would take most of the time.
"""

import json
import re
import shlex
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from mimic_reg import cli
from mimic_reg_pipelines.commands import add_to
from tests.cli.called import mimic_reg
from tests.docs.pages import BLOCK, DOCS

TUTORIALS = [  # the first extracts by a command, and the others find its store
    "extract_and_prove",
    "compare_methods",
    "own_model_and_method",
    "own_cohort",
    "hospital_week",
]
FEWER_EPOCHS = (r"(training\.max_epochs=|max_epochs\W+)\d+", r"\g<1>1")  # what a reader waits for


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all tutorials work, so that the simulated patients are extracted once."""
    return tmp_path_factory.mktemp("tutorials")


@pytest.fixture(autouse=True)
def _as_a_user(monkeypatch):
    """All commands are there, and warnings of libraries are no errors."""
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    add_to(cli.app)
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


def shell(text, expected=0):
    """Run a block of `mimic-reg` commands; return what they print."""
    printed = []
    for line in text.replace("\\\n", " ").splitlines():
        name, *arguments = shlex.split(line, comments=True)
        assert name == "mimic-reg"
        done = mimic_reg(*arguments)
        assert done.returncode == expected, line + done.stdout + done.stderr
        printed.append(done.stdout)
    return "".join(printed)


def test_the_commands_of_get_started_run_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.finditer((DOCS / "get_started.md").read_text("utf-8"))
    commands = [block["text"] for block in blocks if block["kind"] == "sh"]
    assert len(commands) == 5
    for text in commands:
        shell(re.sub(*FEWER_EPOCHS, text))


def test_all_tutorials_are_run():
    assert sorted(TUTORIALS) == sorted(p.stem for p in (DOCS / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs(name, folder, notebook, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    content = json.loads((DOCS / "tutorials" / f"{name}.ipynb").read_text("utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    commands = ""
    for cell in cells:
        text = "".join(cell["source"])
        if text.startswith("!"):
            expected = int("exit-code-1" in cell["metadata"].get("tags", []))
            commands += shell(re.sub("^!", "", text, flags=re.MULTILINE), expected)
        elif text.startswith("%%writefile "):
            first, _, rest = text.partition("\n")
            Path(first.split()[1]).write_text(rest, "utf-8")
        else:
            notebook(re.sub(*FEWER_EPOCHS, text))
    plt.close("all")
    printed = capsys.readouterr().out + commands
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(outputs) >= len(cells) // 2, "committed with their outputs"
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    stored = json.dumps(outputs)
    assert not [text for text in ("/tmp", "/home", "\\u001b", "Traceback") if text in stored]
    for text in SAID.get(name, []):
        assert text in printed
        assert text in stored


SAID = {
    "extract_and_prove": ["This is NOT the published benchmark", "is up to date", "Identical."],
    "hospital_week": ["is up to date", "version 1: champion"],
    "own_cohort": ["1 values of 'stay' do not have the hours"],
    "own_model_and_method": ["The source of __main__:SmallOutputs is not the one"],
}
