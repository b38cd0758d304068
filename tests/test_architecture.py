"""The rooms of the house: who may import whom, and what no file may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A row may import itself and the rows above it.
ROWS = [
    ("errors", "progress", "vision"),
    ("config", "seeds"),
    ("schema",),
    ("storage",),
    ("clinical",),
    ("tasks",),
    ("sources",),
    ("parity", "simulation"),
    ("extraction",),
    ("samples", "splits"),
    ("evaluation",),
    ("models",),
    ("regularisers",),
    ("engine",),
    ("strategies",),
    ("analyses",),
    ("experiments",),
    ("console",),
    ("cli",),
]
RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}


def modules():
    return sorted((ROOT / "mimic_reg").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_up_only(path):
    room = path.relative_to(ROOT / "mimic_reg").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in RANK, f"{room} is in no row: add it to ROWS and to the tree in CONTRIBUTING.md"
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] not in ("prefect", "mlflow", "pipelines"), name
        if parts[0] == "mimic_reg" and len(parts) > 1 and parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[room], f"{room} imports {name}, which is below it"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle_and_no_unsafe_loading(path):
    text = path.read_text("utf-8")
    assert not {n.split(".")[0] for n in imported(path)} & {
        "pickle",
        "cloudpickle",
        "joblib",
        "dill",
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save"):
            assert "weights_only=True" in ast.unparse(node), ast.unparse(node)
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("yaml.unsafe_load", "eval", "exec")
            if ast.unparse(node.func) == "yaml.load":
                assert "SafeLoader" in text, "yaml.load needs a loader made from SafeLoader"


def test_importing_has_no_effects_and_needs_no_home():
    code = "import mimic_reg.cli, mimic_reg.extraction, sys; assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"HOME": "/nonexistent", "PATH": ""}, cwd="/"
    )


def test_no_expected_failures():
    marker = "x" + "fail"
    assert not [p for p in (ROOT / "tests").rglob("*.py") if marker in p.read_text("utf-8")]
