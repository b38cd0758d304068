"""The tutorials run as they are written: their code cells in order, from an empty folder."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all tutorials work, so that the simulated patients are extracted once."""
    return tmp_path_factory.mktemp("tutorials")


@pytest.mark.parametrize("name", sorted(path.stem for path in TUTORIALS.glob("*.ipynb")))
def test_a_tutorial_runs(name, folder, notebook, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    content = json.loads((TUTORIALS / f"{name}.ipynb").read_text("utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        notebook("".join(cell["source"]))
    plt.close("all")
    printed = capsys.readouterr().out
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(outputs) >= len(cells) // 2, "committed with their outputs"
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not [o for o in outputs if "/tmp" in json.dumps(o) or "/home" in json.dumps(o)]
    if name == "own_model_and_method":
        assert "The source of __main__:SmallOutputs is not the one" in printed
