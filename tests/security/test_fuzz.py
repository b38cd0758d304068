"""Files that were damaged, or made by an enemy: a sentence, never a traceback or a wrong result.

Every case is a file that was sound, changed by hypothesis; the seeds are fixed. How many cases
there are stands in CASES and in tests/README.md. A single flipped bit is refused, or changes
nothing; many more are flipped by benchmarks/faults.py.
"""

import contextlib
import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mimic_reg import experiments, tasks
from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.report.results import collect
from mimic_reg.runs import read_history
from mimic_reg.samples import load
from mimic_reg.settings import load_yaml
from mimic_reg.store import Store, read_json, write_json
from tests.faults.flips import kinds
from tests.postgresql import ROOT
from tests.raw import small_source
from tests.stores import write_manifest, write_store

CASES = {
    "safetensors: a checkpoint": 400,
    "safetensors: the best model of a run": 40,
    "Parquet: a table of a store": 300,
    "Parquet: what training loads": 60,
    "YAML: an experiment": 300,
    "YAML: settings of any shape": 200,
    "JSON: a manifest": 300,
    "JSON: the files of a run": 100,
    "CSV: tables of the source": 60,
    "SQLite: MLflow's database": 60,
    "one flipped bit: what is read at once": 300,
    "one flipped bit: fits that go on": 18,
}


def cases(name):
    return settings(
        max_examples=CASES[name],
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # no search for a smaller case
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damage(draw):
    """A change of a file: (kind, where as a share of its length, bytes)."""
    kind = draw(st.sampled_from(["overwrite", "insert", "cut out", "truncate", "append"]))
    return kind, draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=12))


def changed(content, changes):
    for kind, share, some in changes:
        at = int(share * len(content))
        if kind == "overwrite":
            content = content[:at] + some + content[at + len(some) :]
        elif kind == "insert":
            content = content[:at] + some + content[at:]
        elif kind == "cut out":
            content = content[:at] + content[at + len(some) :]
        elif kind == "truncate":
            content = content[:at]
        else:
            content = content + some
    return content


changes = st.lists(damage(), min_size=1, max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def said(function, *arguments, **named):
    """The result, or None where it was refused; anything else than a refusal is a failure."""
    try:
        return function(*arguments, **named)
    except MimicRegError as error:
        text = str(error)
        assert re.search(r"[.:]", text), text
        assert len(text) < 4000, text
        return None


# --- safetensors ----------------------------------------------------------------------------------

STATE = {"model": {"w": torch.arange(6.0).reshape(2, 3)}, "step": 3, "names": ["a", ("b", None)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def checkpoint(folder):
    save_state(folder / "sound", STATE)
    return (folder / "sound").read_bytes()


@cases("safetensors: a checkpoint")
@given(changes)
@example([("overwrite", 0.0, b"\xff" * 8)])
@example([("overwrite", 0.0, b"\x00" * 8)])
def test_checkpoints(folder, checkpoint, some):
    path = folder / "checkpoint"
    path.write_bytes(changed(checkpoint, some))
    state = said(load_state, path)
    assert state is None or isinstance(state, dict)


@pytest.fixture(scope="module")
def run(folder):
    store = write_store(folder / "store", num_subjects=20, hours=(48, 50))
    trial = resolve(
        {
            "task": "in_hospital_mortality",
            "model": {"lstm": {"units": 2}},
            "training": {"max_epochs": 1, "batch_size": 16, "normalizer": "fitted"},
        }
    )
    train(trial, store, folder / "run", device="cpu")
    return folder / "run"


@cases("safetensors: the best model of a run")
@given(changes)
def test_the_best_model_of_a_run(run, some):
    best = run / "best.safetensors"
    sound = best.read_bytes()
    try:
        best.write_bytes(changed(sound, some))
        said(evaluate, run, device="cpu")
    finally:
        best.write_bytes(sound)


# --- Parquet --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(folder):
    path = folder / "sound.parquet"
    numbers = np.random.default_rng(0).normal(size=500)
    pl.DataFrame({"a": numbers, "b": np.arange(500), "c": ["text"] * 500}).write_parquet(path)
    return path.read_bytes()


@cases("Parquet: a table of a store")
@given(changes)
def test_tables(folder, table, some):
    content = changed(table, some)
    (folder / "a.parquet").write_bytes(content)
    entry = {"bytes": len(content), "xxh3": "0"}
    frame = said(Store(folder, {"files": {"a.parquet": entry}}).read, "a.parquet")
    assert frame is None or isinstance(frame, pl.DataFrame)


@cases("Parquet: what training loads")
@given(st.sampled_from(["hourly.parquet", "tasks/in_hospital_mortality.parquet"]), changes)
def test_samples(folder, run, name, some):
    store, task = folder / "store", tasks.get("in_hospital_mortality")
    sound, manifest = (store / name).read_bytes(), (store / "manifest.json").read_bytes()
    try:
        (store / name).write_bytes(changed(sound, some))
        write_manifest(store)  # an enemy's manifest agrees with the files
        said(load, Store.open(store), task, normalizer="fitted")
    finally:
        (store / name).write_bytes(sound)
        (store / "manifest.json").write_bytes(manifest)


# --- YAML -----------------------------------------------------------------------------------------

DEMO = (ROOT / "configs" / "experiments" / "demo.yaml").read_bytes()


@cases("YAML: an experiment")
@given(changes)
@example([("append", 1.0, b"\n? [1]\n: 2")])
@example([("append", 1.0, b"\na: 2001-99-99")])
@example([("append", 1.0, b"\na: 0b")])
@example([("append", 1.0, b"\na: " + b"[" * 5000)])
@example([("append", 1.0, b"\na: " + b"9" * 5000)])
def test_experiments(folder, some):
    path = folder / "mine.yaml"
    path.write_bytes(changed(DEMO, some))
    found = said(experiments.load, path)
    assert found is None or found.name in ("mine", "demo") or found.title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n"
                                      for i in range(1, 30)), "more than 5,000 values"),
        ("a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n"
                                      for i in range(1, 60)), "more than 5,000 values"),
        ("a: &a [*a]", "refers to itself"),
        ("[" * 60_000, "are nested too deeply"),
        ("a: 1" + ":1" * 30_000, "is too long"),
        ("a: " + "9" * 60_000 + ".5", "is too long"),
        ("a: 1\n" * 1_000_000, "more than 65,536 characters"),
    ],
    ids=["laughs", "merges", "itself", "brackets", "sexagesimal", "digits", "long"],
)  # fmt: skip
def test_bombs_are_refused_while_they_are_read(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_yaml(tmp_path / "a.yaml")


@cases("YAML: settings of any shape")
@given(st.sampled_from(["grids", "training", "tasks", "models", "methods", "seeds", "search"]),
       json_values)  # fmt: skip
@example("seeds", 10**16)
def test_settings(folder, key, value):
    content = yaml.safe_load(DEMO) | {"name": "mine"}
    if key in ("grids", "training"):
        content[key] = value
    else:
        content["grids"][0][key] = value
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    said(experiments.load, path)
    said(resolve, {"task": "in_hospital_mortality", "model": value, "regularisers": value})
    said(load_yaml, path)


# --- JSON -----------------------------------------------------------------------------------------

MANIFEST = {"schema": 1, "fingerprint": "f", "files": {"a.parquet": {"bytes": 3, "xxh3": "0"}}}


@cases("JSON: a manifest")
@given(changes, st.sampled_from([None, "schema", "files", "fingerprint", "a.parquet"]), json_values)
@example([("append", 1.0, b"[" * 100_000)], None, None)
@example([("overwrite", 0.0, b"9" * 5000)], None, None)
def test_manifests(folder, some, key, value):
    store = folder / "from-elsewhere"
    store.mkdir(exist_ok=True)
    from mimic_reg.store.spec import SCHEMA_VERSION

    content = json.loads(json.dumps(MANIFEST | {"schema": SCHEMA_VERSION}))
    if key == "a.parquet":
        content["files"][key] = value
    elif key:
        content[key] = value
    text = json.dumps(content).encode()
    (store / "manifest.json").write_bytes(text if key else changed(text, some))
    opened = said(Store.open, store)
    if opened is not None:
        said(opened.read, "a.parquet")
        opened.changed_files()


@cases("JSON: the files of a run")
@given(st.sampled_from(["trial.json", "scores.json", "done.json", "history.jsonl"]), changes)
def test_the_files_of_a_run(folder, run, name, some):
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    (copy / name).write_bytes(changed((copy / name).read_bytes(), some))
    found = said(collect, [copy])
    assert found is None or len(found.trials) + len(found.unfinished) == 1
    said(evaluate, copy, device="cpu") if name == "trial.json" else None


HISTORY = [
    b"\xff\xfe\n",
    b"[1, 2]\n",
    b"{}\n",
    b'{"event": "epoch", "epoch": 0}\n',
    b'{"event": "steps", "epoch": 0, "step": 1, "recorded": []}\n',
    b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("content", HISTORY)
def test_a_history_of_something_else_is_said(run, tmp_path, content):
    """Also where the mark has no hashes, as older versions wrote it."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "history.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"history\.jsonl"):
        evaluate(copy, device="cpu")
    write_json(copy / "done.json", {"trial": read_json(run / "done.json")["trial"]})
    (unfinished,) = collect([copy]).unfinished
    assert "is not a row of a history" in unfinished.why
    with pytest.raises(InputError, match="Line 1 of"):
        read_history(copy / "history.jsonl")


@pytest.mark.parametrize("name", ["done.json", "trial.json", "scores.json"])
@pytest.mark.parametrize(
    "content", [[], "text", 7, None, {}, {"trial": 3, "id": []}, {"trial": "a", "files": [1]}]
)
def test_records_of_another_shape_are_said(run, tmp_path, name, content):
    copy, (settings,) = tmp_path / "copy", [read_json(run / "trial.json")]
    shutil.copytree(run, copy)
    (copy / "done.json").write_text(json.dumps({"trial": settings["id"]}))
    (copy / name).write_text(json.dumps(content))
    (unfinished,) = collect([copy]).unfinished
    assert name in unfinished.why
    store = Path(settings["store"]["path"])
    if content != {"trial": "a", "files": [1]} or name != "scores.json":
        said(train, resolve(settings["trial"]), store, copy, device="cpu")
    if name != "done.json":
        with pytest.raises(InputError, match=name):
            evaluate(copy, device="cpu")


# --- one flipped bit ------------------------------------------------------------------------------

SLOW = ("run: best", "run under way", "fit under way")  # files that a fit or a score is made of


@pytest.fixture(scope="module")
def flippable(tmp_path_factory):
    return kinds(tmp_path_factory.mktemp("flips"))


def test_a_flipped_bit_is_refused_or_changes_nothing(flippable):
    quick = {name: kind for name, kind in flippable.items() if not name.startswith(SLOW)}
    count = CASES["one flipped bit: what is read at once"] // len(quick)
    assert count * len(quick) == CASES["one flipped bit: what is read at once"]
    came = {name: {kind.flip(f"{name} {n}") for n in range(count)} for name, kind in quick.items()}
    assert [name for name, found in came.items() if "PASSED" in found] == []
    assert all("refused" in found for found in came.values())


def test_a_fit_with_a_flipped_bit_ends_as_it_would_or_is_refused(flippable):
    slow = {name: kind for name, kind in flippable.items() if name.startswith(SLOW)}
    came = [(name, kind.flip(f"{name} {n}")) for name, kind in slow.items() for n in range(3)]
    assert len(came) == CASES["one flipped bit: fits that go on"]
    assert [name for name, found in came if found == "PASSED"] == []
    # the checkpoint before takes the place of a damaged one
    assert ("fit under way: checkpoint.safetensors", "without effect") in came
    assert ("run under way: checkpoint.safetensors", "without effect") in came


# --- SQLite ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(folder):
    from mimic_reg_pipelines.tracking import client

    place = folder / "work" / "mlflow.db"
    client.prepare(client.database(place.parent))
    return client, place, place.read_bytes()


@cases("SQLite: MLflow's database")
@given(changes)
def test_databases(database, some):
    client, place, sound = database
    place.unlink()
    place.write_bytes(changed(sound, some))
    client._checked.clear()
    said(client.check_usable, client.database(place.parent))


def test_a_foreign_and_a_locked_database_are_said(database, monkeypatch):
    client, place, sound = database
    client._checked.clear()
    for content in (b"", b"not SQLite" * 500, sound[: len(sound) // 2]):
        place.write_bytes(content)
        with pytest.raises(InputError, match="is not a sound database of MLflow"):
            client.prepare(client.database(place.parent))
    place.unlink()
    with contextlib.closing(sqlite3.connect(place)) as foreign:
        foreign.executescript("create table runs (x); create table patients (y)")
        with pytest.raises(InputError, match="another program wrote it"):
            client.check_usable(client.database(place.parent))
    place.write_bytes(sound)
    monkeypatch.setattr(client, "LOCK_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(MimicRegError, match="is locked by another program"):
            client.prepare(client.database(place.parent))
        other.execute("rollback")
    client.prepare(client.database(place.parent))


# --- CSV ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(folder):
    return small_source().write(folder / "raw")


@cases("CSV: tables of the source")
@given(st.sampled_from(["CHARTEVENTS", "ICUSTAYS", "ADMISSIONS", "PATIENTS", "D_ICD_DIAGNOSES"]),
       changes)  # fmt: skip
def test_sources(folder, source, name, some):
    path, out = source / f"{name}.csv", folder / "extracted"
    sound = path.read_bytes()
    shutil.rmtree(out, ignore_errors=True)
    try:
        path.write_bytes(changed(sound, some))
        said(extract, source, out)
    finally:
        path.write_bytes(sound)


# --- the count ------------------------------------------------------------------------------------


def test_the_readme_counts_the_cases():
    text = (ROOT / "tests" / "README.md").read_text("utf-8")
    for name, count in CASES.items():
        assert f"| {name} | {count:,} |" in text
    assert f"{sum(CASES.values()):,} cases" in text


def test_unreadable_files_are_said(tmp_path):
    """Not a file, absent, or without a line."""
    for function in (load_yaml, read_json):
        with pytest.raises((InputError, OSError)):
            function(tmp_path / "none")
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(InputError, match="is not a store"):
        Store.open(tmp_path)
