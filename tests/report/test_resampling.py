"""Intervals over subjects equal a plain loop over repeated rows; missing data is reported."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score

from mimic_reg.metrics.bootstrap import draw_counts, mean_statistic, replicate
from mimic_reg.metrics.resampling import NO_PREDICTIONS, UNDEFINED, Resampled
from mimic_reg.report.resampling import resample
from mimic_reg.report.results import collect
from mimic_reg.report.tables import main_tables
from mimic_reg.settings import WHOLE
from mimic_reg.sources.images import cohort as image_cohort
from mimic_reg.store import Store
from tests.report.runs import write_sweep
from tests.stores import write_manifest, write_store

SEEDS = range(2)
METHODS = ("none", "itps")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A store in which every subject has many samples of the hourly tasks."""
    folder = write_store(tmp_path_factory.mktemp("cohort"), num_subjects=150, hours=(48, 50))
    return Store.open(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The sample table of a store of images, and nothing else."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    split = np.repeat(["train", "val", "test"], [10, 10, 60])
    table = pl.DataFrame({"image": rng.permutation(80), "y": rng.integers(0, 10, 80)})
    (folder / "tasks").mkdir()
    table.with_columns(split=split).write_parquet(folder / "tasks/image_classification.parquet")
    spec = image_cohort("x", (1, 2, 2), tuple("abcdefghij"))
    write_manifest(folder, spec)
    return Store.open(folder)


def write_trials(root, store, task_name):
    """Two methods and two seeds, each with predictions of its own."""
    write_sweep(root, store=store, tasks=(task_name,), methods=METHODS, levels=(1.0,), seeds=SEEDS)
    table = store.read(f"tasks/{task_name}.parquet").with_row_index("row")
    test = table.filter(split="test")
    task = store.spec.task(task_name)
    y = test.select(task.labels).to_numpy()
    for method in METHODS:
        for seed in SEEDS:
            rng = np.random.default_rng([seed, METHODS.index(method)])
            noise = rng.normal(size=(len(y), task.num_outputs))
            known = np.eye(10)[y[:, 0]] if task.target == "multiclass" else y
            columns = {f"p{c}": p for c, p in enumerate((known + noise).T.astype(np.float32))}
            folder = root / f"{task_name}-{method}-100-{seed}"
            frame = pl.DataFrame({"row": test["row"], **columns})
            frame.write_parquet(folder / "predictions_test.parquet")
    return root


def resampled(root, stores, **options):
    results = collect([root])
    (table,) = main_tables(results)
    return resample(table, results.trials, stores, **options)


def plain_score(task, y, p):
    if task.target == "multiclass":
        return accuracy_score(y[:, 0], p.argmax(1))
    if task.target == "regression":
        return mean_absolute_error(y, p)
    defined = [len(np.unique(column)) == 2 for column in y.T]
    return np.mean(roc_auc_score(y, p, average=None)) if all(defined) else np.nan


def plain_interval(root, store, task, num_replicates):
    """Rows repeated as often as their subject is drawn, scored by scikit-learn."""
    test = store.read(f"tasks/{task.name}.parquet").filter(split="test")
    y = test.select(task.labels).to_numpy()
    p = {
        (m, s): pl.read_parquet(root / f"{task.name}-{m}-100-{s}/predictions_test.parquet")
        .drop("row")
        .to_numpy()
        for m in METHODS
        for s in SEEDS
    }
    columns = [
        c for c in range(y.shape[1]) if task.target != "multilabel" or 0 < y[:, c].mean() < 1
    ]
    if task.target == "multilabel":
        y, p = y[:, columns], {key: values[:, columns] for key, values in p.items()}
    ids = sorted(test[store.spec.subject].unique())
    differences = []
    for counts in draw_counts(len(ids), num_replicates):
        often = dict(zip(ids, counts, strict=True))
        rows = [i for i, s in enumerate(test[store.spec.subject]) for _ in range(often[s])]
        pairs = [
            plain_score(task, y[rows], p["itps", s][rows])
            - plain_score(task, y[rows], p["none", s][rows])
            for s in SEEDS
        ]
        differences.append(np.mean(pairs))
    finite = np.array(differences)[np.isfinite(differences)]
    assert len(finite) > num_replicates / 2
    return tuple(np.quantile(finite, [0.025, 0.975]))


@pytest.mark.parametrize(
    "name", ["decompensation", "phenotyping", "length_of_stay", "image_classification"]
)
def test_it_equals_a_loop_over_repeated_rows(name, request, tmp_path):
    is_image = name == "image_classification"
    store = request.getfixturevalue("images" if is_image else "cohort")
    task = store.spec.task(name)
    write_trials(tmp_path, store, name)
    drawn = 25
    found = resampled(tmp_path, [store], most_work=1e12)
    assert found.num_replicates == 1000
    assert (found.unit, found.num_units) == (("image", 60) if is_image else ("subject", 30))
    few = Resampled({key: values[:drawn] for key, values in found.values.items()})
    expected = plain_interval(tmp_path, store, task, drawn)
    assert expected[0] < expected[1]
    assert few.interval("itps", "none", WHOLE, SEEDS) == pytest.approx(expected, abs=1e-9)


def test_intervals_of_known_cases(cohort, tmp_path):
    write_trials(tmp_path, cohort, "in_hospital_mortality")
    found = resampled(tmp_path, [cohort])
    low, high = found.interval("itps", "none", WHOLE, SEEDS)
    assert low < high
    assert found.interval("none", "none", WHOLE, SEEDS) == (0, 0)
    assert found.interval("none", "itps", WHOLE, SEEDS) == pytest.approx((-high, -low), abs=1e-12)
    assert found.interval("none", "itps", WHOLE, []) == "no seed in common"
    assert found.error("none", "none", WHOLE, SEEDS) == 0
    tested = found.delong("itps", "none", WHOLE, SEEDS)
    values = [found.placements[m, WHOLE, s].auroc for m in ("itps", "none") for s in SEEDS]
    assert tested.difference == pytest.approx(np.mean(values[:2]) - np.mean(values[2:]))
    assert found.delong("none", "none", WHOLE, SEEDS).p == 1
    assert found.delong("l2", "none", WHOLE, SEEDS) is None


def test_missing_or_damaged_predictions_are_reported(cohort, tmp_path):
    name = "in_hospital_mortality"
    write_trials(tmp_path, cohort, name)
    whole = resampled(tmp_path, [cohort])
    gone, damaged = (
        tmp_path / f"{name}-{folder}" / "predictions_test.parquet"
        for folder in ("itps-100-1", "none-100-1")
    )
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:50])
    found = resampled(tmp_path, [cohort])
    assert (found.num_missing, found.reason) == (2, "")
    assert found.interval("itps", "none", WHOLE, SEEDS) == NO_PREDICTIONS
    only = "itps", "none", WHOLE, [0]
    assert found.interval(*only) == whole.interval(*only)
    for stores in ([], [cohort]):
        for path in tmp_path.rglob("predictions_test.parquet"):
            path.unlink(missing_ok=not stores)
        found = resampled(tmp_path, stores)
        assert "were not found" in found.reason
        assert found.interval(*only) == "-"


def test_predictions_of_other_samples_are_not_paired(cohort, tmp_path):
    write_trials(tmp_path, cohort, "in_hospital_mortality")
    path = tmp_path / "in_hospital_mortality-none-100-0" / "predictions_test.parquet"
    pl.read_parquet(path).head(20).write_parquet(path)
    found = resampled(tmp_path, [cohort])
    assert found.num_missing > 0
    assert found.interval("itps", "none", WHOLE, SEEDS) == NO_PREDICTIONS


def test_large_test_sets_get_fewer_draws_or_none(cohort, tmp_path):
    write_trials(tmp_path, cohort, "decompensation")
    whole = resampled(tmp_path, [cohort])
    table = cohort.read("tasks/decompensation.parquet").filter(split="test")
    one_draw = table.height * len(METHODS) * len(SEEDS)
    fewer = resampled(tmp_path, [cohort], most_work=300 * one_draw)
    assert (whole.num_replicates, fewer.num_replicates) == (1000, 300)
    for key, values in fewer.values.items():
        assert np.array_equal(values, whole.values[key][:300])
    none = resampled(tmp_path, [cohort], most_work=199 * one_draw)
    assert none.reason == f"{table.height:,} samples of 4 trials would take too long"
    assert not none.values
    pair = "itps", "none", WHOLE, SEEDS  # DeLong's error is there without draws
    assert none.error(*pair) == none.delong(*pair).error == whole.delong(*pair).error
    assert whole.error(*pair) == pytest.approx(none.error(*pair), rel=0.25)


def test_it_covers_the_truth_because_it_draws_subjects_not_samples():
    """Two equal methods, whose hits are alike within a subject; the truth is a difference of 0."""
    num_subjects, each, num_experiments = 60, 10, 200
    rng = np.random.default_rng(5)
    subject = np.repeat(np.arange(num_subjects), each)
    counts = draw_counts(num_subjects, 200)
    naive_counts = draw_counts(len(subject), 200)
    covered = naively = 0
    for _ in range(num_experiments):
        hits = (
            rng.random(len(subject)) < np.repeat(rng.random(num_subjects), each) for _ in range(2)
        )
        a, b = (h.astype(np.float64) for h in hits)
        for whom, drawn in ((subject, counts), (np.arange(len(subject)), naive_counts)):
            values = {
                ("a", WHOLE, 0): replicate(mean_statistic(a, whom), drawn),
                ("b", WHOLE, 0): replicate(mean_statistic(b, whom), drawn),
            }
            low, high = Resampled(values).interval("a", "b", WHOLE, [0])
            if whom is subject:
                covered += low <= 0 <= high
            else:
                naively += low <= 0 <= high
    assert 0.90 <= covered / num_experiments <= 0.99
    assert naively / num_experiments < 0.85


def test_scores_that_are_undefined_in_most_draws_have_no_interval():
    values = np.r_[np.full(6, np.nan), np.arange(4.0)]
    found = Resampled({("a", WHOLE, 0): values, ("b", WHOLE, 0): values / 2})
    assert found.interval("a", "b", WHOLE, [0]) == UNDEFINED
