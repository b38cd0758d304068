"""A cohort with other keys, channels and tasks than MIMIC's: stored, trained, served, reported."""

import numpy as np
import polars as pl
import pytest
import torch

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import compose_trial
from mimic_reg.progress import Progress
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.samples import load, read_normalizer
from mimic_reg.serving import ServedModel, export, predict_store
from mimic_reg.serving.tables import answer
from mimic_reg.sources.frames import write_store
from mimic_reg.store import Store
from mimic_reg.store.spec import Channel, CohortSpec, Task

HOURS = 24
TASKS = (
    Task(name="mortality24", target="binary", labels=("died",), score="auroc", hours=HOURS),
    Task(name="organs", target="multilabel", labels=("aki", "ards"), score="macro_auroc"),
    Task(name="sepsis", target="binary", labels=("onset",), score="auroc"),
)
CHANNELS = (
    *(Channel(name=f"value {i}", kind="continuous", variable=f"v{i}") for i in range(30)),
    *(Channel(name=f"measured {i}", kind="observed", variable=f"v{i}") for i in range(19)),
    Channel(name="female", kind="indicator", variable="sex"),
)
SPEC = CohortSpec(
    name="other-hospital",
    unit="stay",
    subject="person",
    time="h",
    end="until",
    channels=CHANNELS,
    tasks=TASKS,
    splits="by person, three fifths for training",
    normalizers=("fitted",),
)
KEYS = ["person", "stay", "split", "until"]


def tables(num=60, seed=0):
    """Return hours and samples; the first value predicts death."""
    rng = np.random.default_rng(seed)
    stay, length = 7 * np.arange(num) + 1000, rng.integers(HOURS, HOURS + 6, num)
    person = np.arange(num) // 2
    severity = rng.normal(size=num)
    died = (severity + rng.normal(size=num) * 0.3 > 0.3).astype(np.int8)
    rows = int(length.sum())
    hourly = pl.DataFrame(
        {"stay": np.repeat(stay, length), "h": np.concatenate([np.arange(n) for n in length])}
        | {
            c.name: rng.normal(5, 2, rows) if c.kind == "continuous" else rng.integers(0, 2, rows)
            for c in CHANNELS
        }
    ).with_columns(pl.col("value 0") + pl.Series(np.repeat(severity * 3, length)))
    split = np.array(["train", "train", "train", "val", "test"])[person % 5]
    ids = pl.DataFrame({"person": person, "stay": stay, "split": split})
    organs = {"aki": died, "ards": 1 - died}
    hours = [list(range(1, n + 1, 5)) for n in length]
    samples = {
        "mortality24": ids.with_columns(until=pl.lit(24.0), died=pl.Series(died)),
        "organs": ids.with_columns(until=pl.Series(length), **organs),
        "sepsis": ids.with_columns(until=pl.Series(hours), onset=died).explode("until"),
    }
    return hourly, samples


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(*tables(), SPEC, tmp_path_factory.mktemp("cohort") / "store")


def test_the_store_has_the_specification(store):
    again = Store.open(store.folder)
    assert again.spec == SPEC
    assert not again.changed_files()
    assert again.spec.features == (50,)
    samples = load(again, again.spec.task("organs"), normalizer="fitted")
    assert samples["train"].gather(torch.tensor([0, 2])).x.shape[-1] == 50


@pytest.mark.parametrize(
    ("changes", "people"),
    [
        ({}, "patients"),
        ({"subject": SPEC.unit}, "stays"),
        ({"channels": (), "time": None, "end": None, "shape": (1, 8, 8)}, "images"),
    ],
)
def test_intervals_are_over_what_splits_keep_together(changes, people):
    assert CohortSpec.read({**SPEC.model_dump(mode="json"), **changes}).subjects == people


def test_the_normalizer_is_fitted_to_the_training_hours(store):
    hourly, samples = tables()
    train_stays = samples["mortality24"].filter(split="train")["stay"]
    seen = hourly.filter(pl.col("stay").is_in(train_stays.implode()), pl.col("h") < HOURS)
    mean, std = read_normalizer(store, TASKS[0], "fitted")
    assert mean[3] == pytest.approx(seen["value 3"].cast(pl.Float32).mean(), rel=1e-6)
    assert std[3] == pytest.approx(seen["value 3"].cast(pl.Float32).std(), rel=1e-6)
    assert (mean[30:].tolist(), std[30:].tolist()) == ([0] * 20, [1] * 20)


def test_a_single_training_hour_gives_deviation_one(tmp_path):
    hourly, samples = tables(20)
    first = samples["sepsis"].filter(until=1.0).unique("split", keep="first")
    spec = SPEC.model_copy(update={"tasks": TASKS[2:]})
    store = write_store(hourly, {"sepsis": first}, spec, tmp_path / "store")
    assert read_normalizer(store, TASKS[2], "fitted")[1].tolist() == [1] * 50


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Return a run of each kind of task and model, trained for two epochs."""
    folder = tmp_path_factory.mktemp("runs")
    lstm, transformer = folder / "lstm.yaml", folder / "transformer.yaml"
    lstm.write_text("lstm: {units: 8}\n")
    transformer.write_text("transformer: {blocks: 1, heads: 2, key_size: 4, dense: 8}\n")
    found = {}
    for task, model, method in (
        ("mortality24", str(lstm), "lstm/itps"),
        ("organs", str(transformer), "transformer/itps"),
        ("sepsis", str(lstm), "lstm/itps"),
        ("mortality24", "logistic_regression", "none"),
    ):
        name = f"{task}-{model.rpartition('/')[2].removesuffix('.yaml')}"
        trial = compose_trial(task, model, method, training={"max_epochs": 2})
        train(trial, store.folder, folder / name)
        found[name] = folder / name
    return found


@pytest.mark.parametrize(
    "name",
    ["mortality24-lstm", "organs-transformer", "sepsis-lstm", "mortality24-logistic_regression"],
)
def test_served_predictions_equal_the_engines(runs, name, store, tmp_path):
    run = runs[name]
    scores = evaluate(run)
    assert {"validation", "test"} == set(scores)
    export(run, tmp_path)
    model = ServedModel.load(tmp_path)
    assert model.spec.name == "other-hospital"
    found = predict_store(model, store, Progress())
    engine = pl.read_parquet(run / "predictions_test.parquet").join(found, on="row")
    assert found.columns[:4] == ["row", "stay", "until", "split"]
    for column, output in enumerate(model.outputs):
        assert (engine[output] - engine[f"p{column}"]).abs().max() < 1e-6


def test_a_request_needs_every_channel(runs, store, tmp_path):
    export(runs["mortality24-lstm"], tmp_path)
    model = ServedModel.load(tmp_path)
    hours = tables()[0].filter(pl.col("stay") == 1000, pl.col("h") < HOURS).rename({"h": "hour"})
    request = hours.to_pandas()
    found = predict_store(model, store, Progress()).filter(pl.col("stay") == 1000)
    (probability,) = answer(model, request)["probability"]
    assert probability == pytest.approx(found["probability"][0], abs=1e-6)
    with pytest.raises(InputError, match="A channel is missing: 'value 7'"):
        answer(model, request.drop(columns="value 7"))


def test_the_report_names_the_cohort(runs, tmp_path):
    results = collect(list(runs.values()))
    assert not results.unfinished
    assert {t.cohort.name for t in results.trials} == {"other-hospital"}
    page = write_report(results, tmp_path / "report.html", title="X").read_text("utf-8")
    assert "mortality24" in page.lower()


def test_a_grid_names_the_cohort(store):
    grid = {"tasks": ["mortality24"], "models": ["lstm"], "methods": ["none"]}
    given = {"name": "x", "title": "X", "grids": [{**grid, "data": "other-hospital"}]}
    experiments.check_data(experiments.parse(given), store)
    counts = experiments.sizes(store)
    assert counts["mortality24", "train"] == 36
    (planned,) = experiments.plan(experiments.parse(given))
    assert planned.trial.training.normalizer == "fitted"
    wrong = {**given, "grids": [{**grid, "data": "other-hospital", "tasks": ["mortality"]}]}
    with pytest.raises(InputError, match=r"Did you mean 'mortality24'\? Allowed: mortality24"):
        experiments.check_data(experiments.parse(wrong), store)


def test_the_published_normalizer_is_refused(store, tmp_path):
    trial = compose_trial("mortality24", "lstm", "none", training={"normalizer": "published"})
    with pytest.raises(InputError, match=r"has no normalizer 'published'\. Set .* one of: fitted"):
        train(trial, store.folder, tmp_path / "run")


@pytest.mark.parametrize("score", ["aurok", "macro_auroc", "mean_absolute_deviation"])
def test_a_score_that_the_task_does_not_have_is_refused(score, tmp_path):
    task = TASKS[0].model_copy(update={"score": score})
    hourly, samples = tables(20)
    spec = SPEC.model_copy(update={"tasks": (task,)})
    write_store(hourly, {task.name: samples[task.name]}, spec, tmp_path / "store")
    with pytest.raises(InputError, match=f"{score}.*auroc"):
        train(compose_trial("mortality24", "lstm", "none"), tmp_path / "store", tmp_path / "run")


def test_keys_may_be_negative(tmp_path):
    hourly, samples = tables(20)
    shift = pl.col("stay") - 10_000
    alone = samples["mortality24"].with_columns(shift)
    alone = alone.filter((pl.col("split") != "train") | (pl.col("stay") == -9000))
    alone = alone.with_columns(until=pl.lit(1.0))
    task = TASKS[0].model_copy(update={"hours": 1.0})
    spec = SPEC.model_copy(update={"tasks": (task,)})
    made = write_store(hourly.with_columns(shift), {task.name: alone}, spec, tmp_path / "store")
    assert len(load(made, task, normalizer="fitted")["train"]) == 1
    assert read_normalizer(made, task, "fitted")[1].tolist() == [1] * 50


def in_samples(task, **columns):
    return lambda hourly, samples: (
        hourly,
        samples | {task: samples[task].with_columns(**columns)},
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, s: (h.drop("value 3"), s), "lacks the column 'value 3'"),
        (lambda h, s: (h.with_columns(x=1), s), "has an unknown column 'x'"),
        (lambda h, s: (h.filter(pl.col("h") != 3), s), "20 values of 'stay' do not have the hours"),
        (lambda h, s: (h.with_columns(female=pl.lit(2)), s), "'female' are not 0 or 1"),
        (
            lambda h, s: (h.with_columns(pl.lit(None, pl.Float64).alias("value 1")), s),
            "cells of the channel 'value 1' are empty, infinite",
        ),
        (
            lambda h, s: (h.with_columns(pl.lit(1e300).alias("value 1")), s),
            "cells of the channel 'value 1' are empty, infinite or too large for 32 bits",
        ),
        (
            lambda h, s: (h.with_columns(pl.col("stay").cast(pl.UInt64) + 2**63), s),
            "'stay' must hold whole numbers .64 bits.",
        ),
        (
            lambda h, s: (h.with_columns(pl.col("stay").cast(pl.String)), s),
            "'stay' must hold whole",
        ),
        (lambda h, s: (h, {"organs": s["organs"]}), "no sample table for the task 'mortality24'"),
        (
            in_samples("mortality24", until=pl.lit(20.0)),
            "20 samples .* do not see exactly 24 hours",
        ),
        *(
            (in_samples("organs", until=pl.lit(hours)), "20 samples of organs see no hour, or more")
            for hours in (99.0, 1e30)
        ),
        (in_samples("organs", aki=pl.lit(3)), "20 labels 'aki' of organs are outside 0 to 1"),
        (in_samples("organs", aki=pl.lit(None, pl.Int8)), "20 labels 'aki' of organs are empty"),
        (in_samples("organs", split=pl.lit("dev")), "have a split other than train, val, test"),
        (in_samples("organs", split=pl.lit("train")), "no samples of organs in the split 'val'"),
        (in_samples("organs", person=pl.lit(1)), "1 subjects of organs are in several splits"),
        (in_samples("organs", stay=pl.lit(1000)), "samples of organs appear more than once"),
        (
            lambda h, s: (h, s | {"organs": s["organs"].with_columns(pl.col("stay") + 1)}),
            "20 samples of organs have units without a row",
        ),
        (in_samples("organs", until=pl.lit("x")), "'until' holds String, not numbers of hours"),
        (in_samples("organs", until=pl.lit(None, pl.Int8)), "20 samples .* no finite number"),
        (in_samples("organs", until=pl.lit(np.nan)), "20 samples of organs have no finite number"),
        (in_samples("organs", split=pl.lit(1)), "'split' holds Int32, not train, val, test"),
        (in_samples("organs", person=pl.lit(2**63, pl.UInt64)), "whole numbers .64 bits."),
        (lambda h, s: (h, s | {"mortality": s["organs"]}), "'mortality', which is not a task of"),
        (lambda h, s: (h.to_pandas(), s), r"pandas\S*DataFrame, not a polars\.DataFrame"),
        (lambda h, s: (h.lazy(), s), "collect"),
    ],
)
def test_tables_that_do_not_match_are_refused(change, message, tmp_path):
    hourly, samples = change(*tables(20))
    with pytest.raises(InputError, match=message):
        write_store(hourly, samples, SPEC, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_empty_cell_is_null_not_nan(tmp_path):
    hourly, samples = tables(20)
    spec, name = SPEC.model_copy(update={"imputed": False}), pl.col("value 1")
    write_store(hourly.with_columns(pl.when(name > 0).then(name)), samples, spec, tmp_path / "a")
    with pytest.raises(InputError, match=r"are NaN, .* write null for an empty cell"):
        write_store(hourly.with_columns(name * np.nan), samples, spec, tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channels": [c.model_dump() for c in (*CHANNELS, CHANNELS[0])]},
            "'value 0' appears twice",
        ),
        ({"time": None}, "needs 'time', 'end' and channels, or a 'shape' instead"),
        ({"name": "Other Hospital"}, "at 'name'"),
        ({"colour": 1}, "at 'colour'"),
        ({"tasks": [{**TASKS[0].model_dump(), "labels": ["a", "b"]}]}, "needs exactly one label"),
        ({"tasks": [{**TASKS[0].model_dump(), "target": "multiclass"}]}, "two classes or more"),
        ({"tasks": [{**TASKS[1].model_dump(), "labels": ["a", "a"]}]}, "'a' appears twice"),
        ({"tasks": [{**TASKS[0].model_dump(), "labels": ["split"]}]}, "'split' appears twice"),
        ({"tasks": [{**TASKS[0].model_dump(), "labels": ["until"]}]}, "'until' appears twice"),
        ({"tasks": [{**TASKS[0].model_dump(), "name": "x" * 101}]}, "at most 100 characters"),
        ({"unit": "value 0"}, "hourly table 'value 0' appears twice"),
        ({"time": "stay"}, "hourly table 'stay' appears twice"),
    ],
)
def test_an_invalid_specification_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        CohortSpec.read({**SPEC.model_dump(mode="json"), **changes})
