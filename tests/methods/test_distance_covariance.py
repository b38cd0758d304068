"""Distance covariance against its definition, and attributes that come from the store."""

import numpy as np
import polars as pl
import pytest
import torch

from mimic_reg import methods, tasks
from mimic_reg.errors import InputError
from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.methods.distance_covariance import distance_covariance, encoded
from mimic_reg.samples.attributes import read_attributes
from mimic_reg.store import Store
from tests.methods.fits import linear_model, make_batch, make_fit, objective
from tests.stores import write_manifest, write_store

CONTRACT = {"weight": 2.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a table of stays."""
    folder = write_store(tmp_path_factory.mktemp("store"), num_subjects=40, hours=(48, 50))
    stays = pl.read_parquet(folder / "tasks" / "phenotyping.parquet").select(
        "icustay_id", "subject_id"
    )
    number = np.arange(stays.height)
    stays = stays.sort("icustay_id", descending=True).with_columns(
        gender=pl.Series(np.where(number % 2, "F", "M")),
        ethnicity=pl.Series([None if i % 5 == 0 else "A" for i in number]),
        age=pl.Series(np.where(number % 3, 60.0 + number, 300.0)),
        intime=pl.lit(0).cast(pl.Datetime),
    )
    stays.write_parquet(folder / "stays.parquet")
    write_manifest(folder)
    return folder


def test_three_points():
    x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [4.0]])
    assert distance_covariance(x, y).item() == pytest.approx(0.9876543, abs=5e-7)
    assert distance_covariance(x, torch.ones(3, 1)).item() == pytest.approx(0, abs=1e-7)


def by_definition(x, y):
    """dCov² of Szekely, Rizzo and Bakirov: S1 + S2 - 2 S3, from distances that are not centred."""
    a, b = (np.linalg.norm(z[:, None] - z[None], axis=-1) for z in (x, y))
    n = len(x)
    s1 = sum(a[i, j] * b[i, j] for i in range(n) for j in range(n)) / n**2
    s2 = a.mean() * b.mean()
    s3 = sum(a[i].sum() * b[i].sum() for i in range(n)) / n**3
    return s1 + s2 - 2 * s3


@pytest.mark.parametrize(("d", "e"), [(1, 1), (3, 2)])
def test_it_is_that_of_the_definition(d, e):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, d))
    y = x[:, :1] ** 2 + rng.normal(size=(30, e))
    got = distance_covariance(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert got == pytest.approx(by_definition(x, y), rel=1e-9)


def test_equal_predictions_have_a_gradient():
    p = torch.full((4, 2), 0.5, requires_grad=True)
    distance_covariance(p, torch.arange(4.0)[:, None]).backward()
    assert p.grad.isfinite().all()


def test_the_penalty_goes_by_the_samples_of_the_batch():
    fit = make_fit(
        train=object(), attributes=lambda names: {"g": np.array(["a", "b", "a", "a", "b"])}
    )
    method = methods.create("distance_covariance", weight=3.0, attributes=["g"])
    model = method.prepare(linear_model([[1.0]]), fit)
    batch = make_batch(torch.tensor([[0.0], [1.0], [2.0]]), torch.ones(3, 1))
    plain = objective(methods.create("none"), model, batch, fit)
    hot = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    expected = plain + 3 * distance_covariance(batch.x.sigmoid(), hot)
    assert objective(method, model, batch, fit).item() == pytest.approx(expected.item())


def test_texts_are_one_hot_and_numbers_standardised():
    columns = {"g": np.array(["b", None, "b"], object), "age": np.array([50.0, 60.0, 70.0])}
    expected = [[0, 1, -1.224745], [1, 0, 0], [0, 1, 1.224745]]
    assert encoded(columns) == pytest.approx(np.array(expected), abs=1e-6)
    with pytest.raises(InputError, match="'age' has no number for 1 training samples"):
        encoded({"age": np.array([1.0, np.nan])})
    with pytest.raises(InputError, match="'g' is the same for all training samples"):
        encoded({"g": np.array(["a", "a"])})


def test_attributes_are_those_of_the_samples_stays(store):
    opened = Store.open(store)
    task = tasks.get("phenotyping")
    table = opened.read("tasks/phenotyping.parquet")
    row = np.array([5, 0, 17])
    found = read_attributes(opened, task, row, ["age", "gender"])
    stays = {stay: rest for stay, *rest in opened.read("stays.parquet").rows()}
    expected = [stays[stay] for stay in table["icustay_id"][row].to_list()]
    assert found["gender"].tolist() == [gender for _, gender, *_ in expected]
    assert found["age"].tolist() == [min(age, 90) for *_, age, _ in expected]
    for name in ("intime", "icustay_id", "height"):
        with pytest.raises(InputError, match=f"no attribute '{name}'. It has: gender, ethnicity"):
            read_attributes(opened, task, row, [name])


def settings(**options):
    return resolve(
        {
            "task": "in_hospital_mortality",
            "model": {"lstm": {"units": 2}},
            "regularisers": [{"distance_covariance": options}],
            "training": {"max_epochs": 1, "epoch_steps": 2, "normalizer": "fitted"},
        }
    )


def test_a_fit_takes_them_from_the_store_and_says_what_it_lacks(store, tmp_path):
    trial = settings(attributes=["gender", "age"])
    assert train(trial, store, tmp_path / "run").status == "finished"
    with pytest.raises(InputError, match="no attribute 'religion'"):
        train(settings(attributes=["religion"]), store, tmp_path / "unknown")
    without = write_store(tmp_path / "store", num_subjects=40, hours=(48, 50))
    with pytest.raises(InputError, match="has no table of stays, so it knows no gender"):
        train(settings(attributes=["gender"]), without, tmp_path / "without")


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"attributes": []}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("distance_covariance", **options)
