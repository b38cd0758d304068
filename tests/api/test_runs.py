"""Fits from Python: the same trials as on the command line, and what a run shows of them."""

import dataclasses
import shutil

import numpy as np
import polars as pl
import pytest

import mimic_reg as mr
from mimic_reg import tasks
from mimic_reg.api.runs import make_trial
from mimic_reg.learners.trials import compose_trial
from mimic_reg.metrics.scores import Score
from mimic_reg.store import Store
from tests.api.own import Mean
from tests.stores import write_store

TASK = "in_hospital_mortality"


@pytest.mark.parametrize("methods", ["itps", ["itps"], [mr.methods.itps(tau=0.15)]])
def test_a_fit_is_the_trial_of_the_command_line(methods):
    given = {"seed": 3, "supervision": 0.5, "training": {"max_epochs": 7}}
    assert make_trial(TASK, "lstm", methods, **given) == compose_trial(
        TASK, "lstm", "itps", **given
    )
    assert make_trial(TASK, mr.models.lstm(), (), **given).method == "none"


def test_numbers_of_numpy_are_numbers():
    given = {"max_epochs": np.int64(7), "learning_rate": np.float64(0.1)}
    training = make_trial(TASK, "lstm", (), training=given).training
    assert (training.max_epochs, training.learning_rate) == (7, 0.1)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A run in its default folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        run = mr.fit(store.folder, TASK, Mean, max_epochs=2, learning_rate=0.01)
        yield mr.open_run(run.folder.resolve())


def test_a_run_shows_what_its_folder_holds(run, store):
    assert run.folder.parent.name == "runs"
    assert run.folder.name.startswith("in_hospital_mortality-tests.api.own.Mean-none-100-seed0-")
    assert (run.task, run.model, run.method, run.seed) == (TASK, "tests.api.own:Mean", "none", 0)
    assert run.settings["training"]["learning_rate"] == 0.01
    assert isinstance(run.scores["test"]["auroc"], Score)
    history = run.history
    assert history["epoch"].tolist() == [1, 2]
    best = history.set_index("epoch").loc[run.best_epoch]
    assert best["validation_auroc"] == run.scores["validation"]["auroc"].value
    written = pl.read_parquet(run.folder / "predictions_test.parquet").sort("row")
    samples = store.samples(TASK)
    order = np.argsort(samples.test.to_polars("samples").with_row_index()["index"].to_numpy())
    np.testing.assert_allclose(run.predict()[order], written["p0"], rtol=1e-6)
    assert "tests.api.own:Mean" in repr(run)
    assert run.outputs == ("probability",)


def test_predictions_are_normalised_as_in_training_whatever_the_samples_say(run, store):
    raw = store.samples(TASK, normalizer="raw").validation
    assert (run.predict(raw) == run.predict(split="validation")).all()
    assert (run.predict(store.folder, "train") == run.predict(split="train")).all()
    assert run.predict(raw).shape == raw.y.shape


def test_a_finished_run_is_not_trained_again(run, store, monkeypatch):
    monkeypatch.chdir(run.folder.parents[1])
    before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir() if path.suffix}
    again = mr.fit(store, TASK, Mean, max_epochs=2, learning_rate=0.01)
    assert again.folder.resolve() == run.folder
    assert before.items() <= {p: p.stat().st_mtime_ns for p in run.folder.iterdir()}.items()


def test_a_store_that_was_moved(run, store, tmp_path):
    shutil.copytree(store.folder, tmp_path / "moved")
    opened = mr.open_run(run.folder, store=tmp_path / "moved")
    assert (opened.predict() == run.predict()).all()
    other = write_store(tmp_path / "other", seed=5)
    with pytest.raises(mr.InputError, match="is not the store that"):
        mr.open_run(run.folder, store=other).predict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "mortality"}, "Did you mean 'in_hospital_mortality'"),
        ({"task": 3}, "The task is 3; a name is needed"),
        ({"store": "nowhere"}, "nowhere is not a store"),
        ({"store": 3}, "The path of a store is needed, got 3"),
        ({"model": "lstn"}, "Unknown model 'lstn'. Did you mean 'lstm'"),
        ({"model": Mean(3, 1)}, "The model is a Mean object. Give a name"),
        ({"model": {"a": {}, "b": {}}}, "A model as a dictionary is a name with its options"),
        ({"methods": "itsp"}, "no method 'itsp' in configs/methods. Did you mean 'itps'"),
        ({"methods": ["none", Mean]}, "derives from mimic_reg.Regulariser"),
        ({"methods": 3}, "The method is a int object"),
        ({"max_epoch": 3}, "no setting 'training.max_epoch'. Did you mean 'max_epochs'"),
        ({"max_epochs": "3"}, "'training.max_epochs' is '3'"),
        ({"learning_rate": object()}, "'learning_rate' is a object, which a run cannot record"),
        ({"seed": -1}, "'seed' is -1"),
        ({"supervision": 25}, "'supervision' is 25"),
        ({"supervision": 0.5, "num_samples": 9}, "both num_samples and a supervision level"),
        ({"device": "gpu"}, "gpu"),
        ({"out": 3}, "The path of a run is needed"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence(store, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mr.InputError, match=message.replace(".", "[.]")):
        mr.fit(**{"store": store, "task": TASK, **change})


def test_what_is_no_run_or_not_a_finished_one(run, store, tmp_path):
    with pytest.raises(mr.InputError, match="holds no trial"):
        mr.open_run(store.folder)
    with pytest.raises(mr.InputError, match="There is no folder"):
        mr.open_run(tmp_path / "nowhere")
    shutil.copytree(run.folder, tmp_path / "cut")
    (tmp_path / "cut" / "done.json").unlink()
    with pytest.raises(mr.InputError, match="is not finished"):
        mr.open_run(tmp_path / "cut")
    with pytest.raises(mr.InputError, match=r"no split 'val'.*Allowed: test, train, validation"):
        run.predict(split="val")


def test_low_rooms_refuse_in_sentences_too(store):
    assert Store.open(str(store.folder)).spec == store.spec
    with pytest.raises(mr.InputError, match="The folder of a store is needed, got 3"):
        Store.open(3)
    with pytest.raises(mr.InputError, match=r"no task 'mortality' .*Did you mean 'in_hospital_mor"):
        tasks.get("mortality")
    with pytest.raises(AttributeError, match=r"no attribute 'fitt'. Did you mean 'fit'"):
        mr.fitt  # noqa: B018
    assert {"fit", "methods", "open_store"} <= set(dir(mr))


def test_tables_over_runs_are_those_of_the_report(run, store, tmp_path):
    others = [
        mr.fit(store, TASK, Mean, [mr.methods.itps(tau=0.0)], seed=seed, out=tmp_path / str(seed),
               max_epochs=2, learning_rate=0.01)
        for seed in (0, 1)
    ]  # fmt: skip
    table = mr.compare([run, *others], focus=mr.methods.itps())
    (row,) = table.to_dict("records")
    assert (row["method"], row["baseline"], row["n"]) == ("itps", "none", 1)
    assert row["difference"] == 0  # tau = 0 is the baseline
    assert row["reason"] == "fewer than 3 pairs"
    means = mr.mean_scores([run.folder, tmp_path], score="auprc", split="validation")
    assert means["n"].tolist() == [1, 2]
    assert means["mean"][0] == run.scores["validation"]["auprc"].value
    page = mr.write_report([run, *others], tmp_path / "page.html")
    assert "tests.api.own:Mean" in page.read_text("utf-8")
    assert "Is there leakage?" in page.read_text("utf-8")
    (tmp_path / "1" / "done.json").unlink()
    with pytest.warns(UserWarning, match="1 run folders are left out: 1 .not finished: 2 of at"):
        mr.mean_scores([run, tmp_path])


def test_check_card_and_board_are_those_of_the_commands(run, store, tmp_path):
    found = mr.check(store, tasks=[run.task])
    assert {"check", "status", "text", "count", "advice", "task"} == {*found.columns}
    assert [*mr.check(run)["check"]][: len(found)] == [*found["check"]]
    text = mr.card(run, tmp_path / "card", intended_use="Research on wards.")
    assert (tmp_path / "card/card.md").read_text("utf-8") == text
    assert "Research on wards." in text
    table = mr.board(run.folder, tmp_path / "board")
    assert table["model"].to_list() == [run.model]
    assert table["command"][0] in (tmp_path / "board/board.md").read_text("utf-8")
    for call, message in (
        (lambda: mr.check(run, tasks=[run.task]), "which has one task"),
        (lambda: mr.check(store, store=store), "is not a run"),
        (lambda: mr.check(store, tasks="death"), "a list of names"),
        (lambda: mr.card(5), "path of a run"),
        (lambda: mr.check(store, seed="x"), "seed is 'x'"),
        (lambda: mr.board([]), "There is no run"),
        (lambda: mr.board(5), "path of a work"),
    ):
        with pytest.raises(mr.InputError, match=message):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: mr.compare(r.folder), "A list of runs or run folders is needed"),
        (lambda r: mr.compare([r], score="aurocc"), "no score 'aurocc'"),
        (lambda r: mr.compare([r], score="accuracy"), "No run has the score 'accuracy'"),
        (lambda r: mr.compare([r], split="val"), "no split 'val'"),
        (lambda r: mr.compare([r], focus="itps"), "No run is of the method 'itps'"),
        (lambda r: mr.compare([3]), "The path of a run is needed, got 3"),
    ],
)
def test_what_cannot_be_compared(run, call, message):
    with pytest.raises(mr.InputError, match=message):
        call(run)


def test_a_table_of_pandas_becomes_a_store(store, tmp_path):
    hours = store.read("hourly.parquet").to_pandas()
    task = store.spec.task(TASK)
    spec = store.spec.model_copy(update={"tasks": (task,), "normalizers": ("fitted",)})
    samples = store.read(f"tasks/{TASK}.parquet")
    written = mr.write_store(hours, {TASK: samples.to_pandas()}, spec, str(tmp_path / "own"))
    assert written.tasks == (TASK,)
    assert len(written.samples(TASK, normalizer="fitted").train) == len(store.samples(TASK).train)
    with pytest.raises(mr.InputError, match=r"is a builtins.int, not a polars.DataFrame"):
        mr.write_store(3, {TASK: samples}, spec, tmp_path / "other")


def test_extraction_from_python(tmp_path):
    source = mr.synthesize(tmp_path / "raw", patients=60, seed=1)
    made = mr.extract(
        source, tmp_path / "store", tasks=["phenotyping"], allow_empty=["OUTPUTEVENTS"]
    )
    assert made.tasks == ("phenotyping",)
    assert dataclasses.is_dataclass(made)
