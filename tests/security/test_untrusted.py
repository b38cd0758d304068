"""Files from elsewhere are read, or refused with a sentence; nothing in them is ever executed."""

import ast
import io
import json
import os
import pickle
import zipfile

import pytest
import torch

from mimic_reg import experiments
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.extraction import extract
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.settings import load_yaml
from mimic_reg.store import MANIFEST, Store, check_inside, read_json, write_json
from mimic_reg.store.stages import recover
from tests.postgresql import ROOT
from tests.raw import small_source

PROGRAM = sorted(
    p for name in ("mimic_reg", "pipelines", "docker") for p in (ROOT / name).rglob("*.py")
)
# modules that execute what they load; pickletools only lists what is in a pickle
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    *("eval", "exec", "compile", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"),
    *("pd.read_pickle", "pandas.read_pickle", "tempfile.mktemp", "mlflow.pytorch.load_model"),
}


@pytest.mark.parametrize("path", PROGRAM, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_loads_what_could_be_code(path):
    assert not unsafe(path.read_text("utf-8"))


def unsafe(text):
    """What a module does that it should not."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in UNSAFE_MODULES else []
        if isinstance(node, ast.Call):
            name, call = ast.unparse(node.func), ast.unparse(node)
            if name in UNSAFE_CALLS:
                found.append(name)
            if name in ("torch.load", "torch.save") and "weights_only=True" not in call:
                found.append(name)
            if name == "yaml.load" and "SafeLoader" not in text:
                found.append(name)
            if "allow_pickle=True" in call or "shell=True" in call:
                found.append(call)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import yaml\nyaml.load('x', yaml.Loader)",
        "eval('1')",
        "import subprocess\nsubprocess.run('x', shell=True)",
    ],
)
def test_the_search_sees_what_it_should(text):
    assert unsafe(text)


def test_pickletools_is_no_pickle():
    assert not unsafe("import pickletools\npickletools.genops(b'')")


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.fixture
def bomb(tmp_path):
    """Pickles as files have them: plain, and as torch writes them; and where one would show."""
    target = tmp_path / "exploded"
    plain = pickle.dumps(Bomb(target))
    packed = io.BytesIO()
    torch.save({"state": Bomb(target)}, packed)
    yield {"plain": plain, "torch": packed.getvalue()}, target
    assert not target.exists()


def test_the_bomb_is_one(bomb):
    contents, target = bomb
    pickle.loads(contents["plain"])
    assert target.is_dir()
    target.rmdir()
    assert zipfile.is_zipfile(io.BytesIO(contents["torch"]))


@pytest.mark.parametrize("kind", ["plain", "torch"])
@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "checkpoint.safetensors"])
def test_pickles_are_refused_whatever_they_are_called(bomb, tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(bomb[0][kind])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_state(path)
    with pytest.raises(InputError, match="not valid"):
        read_json(path)
    with pytest.raises(InputError, match="not valid"):
        load_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']",
        "a: !!python/name:os.mkdir",
        "!!python/module:os",
        "a: !mine 1",
    ],
)
def test_yaml_makes_no_objects(tmp_path, text):
    target, path = tmp_path / "exploded", tmp_path / "a.yaml"
    path.write_text(text.replace("{}", str(target)))
    with pytest.raises(InputError, match="not valid YAML"):
        load_yaml(path)
    assert not target.exists()


GRID = {"tasks": ["in_hospital_mortality"], "models": ["lstm"], "methods": ["none"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"store": "../store"},
        {"store": "/etc"},
        {"source": "a/../../b"},
        {"name": "../escape"},
        {"name": "a/b"},
        {"grids": [GRID | {"tasks": ["../tasks/in_hospital_mortality"]}]},
        {"grids": [GRID | {"methods": ["../methods/none"]}]},
        {"grids": [GRID | {"methods": ["/tmp/mine.yaml"]}]},
        {"grids": [GRID | {"models": ["../models/lstm"]}]},
        {"grids": [GRID | {"models": ["lstm.yaml"]}]},
        {"grids": [GRID | {"families": {"lstm": "../../.."}}]},
        {"grids": [GRID | {"strategy": "../single"}]},
    ],
    ids=str,
)
def test_a_configuration_names_nothing_outside(changes):
    settings = {"name": "a", "title": "A", "grids": [GRID]}
    experiments.parse(settings)
    with pytest.raises(InputError):
        experiments.parse(settings | changes)


@pytest.mark.parametrize(
    "changes",
    [{"task": "../x"}, {"model": {"os.path": {}}}, {"regularisers": [{"..base": {}}]}],
    ids=str,
)
def test_a_trial_names_modules_of_its_own_package_only(changes):
    settings = {"task": "in_hospital_mortality", "model": "lstm"}
    resolve(settings)
    with pytest.raises(InputError, match=r"Unknown m|setting 'task' is '\.\./x'"):
        resolve(settings | changes)


def test_names_on_the_command_line_stay_within_the_configurations():
    with pytest.raises(InputError, match="configs/methods"):
        compose_trial("in_hospital_mortality", "lstm", "../../pyproject")


@pytest.mark.parametrize("link", [True, False])
def test_a_link_does_not_lead_out_of_the_work_folder(tmp_path, link):
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    if link:
        (work / "store").symlink_to(outside)
        with pytest.raises(InputError, match="leads out of"):
            experiments.within(work, "store")
    else:
        assert experiments.within(work, "store") == work / "store"


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "a/../../victim", "", "."])
def test_names_in_a_manifest_stay_within_the_store(name):
    with pytest.raises(InputError, match="not the name of a file within a store"):
        check_inside(name)
    assert check_inside("tasks/a.parquet") == "tasks/a.parquet"


def test_a_store_from_elsewhere_deletes_and_moves_nothing_outside(tmp_path):
    raw, store, victim = small_source().write(tmp_path / "raw"), tmp_path / "s", tmp_path / "victim"
    victim.write_text("keep me")
    extract(raw, store)
    manifest = read_json(store / MANIFEST)
    manifest["files"]["../victim"] = {"bytes": 7, "xxh3": "0"}
    write_json(store / MANIFEST, manifest)
    with pytest.raises(InputError, match="not the name of a file within a store"):
        Store.open(store)
    with pytest.raises(InputError, match="not the name of a file within a store"):
        extract(raw, store, force=True)
    (store / ".work").mkdir(exist_ok=True)
    (store / ".work" / "x").write_text("planted")
    for plan in ({"moves": {"../victim": "x"}, "obsolete": []},
                 {"moves": {"x": "../../victim"}, "obsolete": []},
                 {"moves": {}, "obsolete": ["../victim"]}, [], {"moves": 3}):  # fmt: skip
        (store / ".publish.json").write_text(json.dumps(plan))
        with pytest.raises(InputError):
            recover(store)
    assert victim.read_text() == "keep me"
