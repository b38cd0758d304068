"""Monte Carlo dropout: a mean over thinned networks, the same for a sample in any batch."""

import numpy as np
import polars as pl
import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.methods.mc_dropout import fixed_keep
from mimic_reg.progress import Progress
from mimic_reg.report.predictions import read_predictions
from mimic_reg.report.results import collect
from mimic_reg.runs.record import read_scores
from mimic_reg.serving import ServedModel, export, predict_store
from mimic_reg.store import Store
from tests.methods.fits import linear_model, make_fit
from tests.networks import create
from tests.stores import write_store

CONTRACT = {"rate": 0.3, "passes": 3}


def monte_carlo(model, fit=None, **options):
    method = methods.create("mc_dropout", **options)
    model = method.prepare(model, fit or make_fit()).eval()
    return method, model, torch.no_grad()(method.predictor(model, model))


def test_all_patterns_of_two_units_give_their_mean_and_deviation():
    """Half of a logit's four values each: by enumeration, up to the error of 4,000 passes."""
    model, fit = linear_model([[1.0, 2.0]]), make_fit(target="binary")
    method, model, _ = monte_carlo(model, fit, rate=0.5, passes=4000)
    x, ones = torch.ones(1, 2), torch.ones(1, dtype=torch.int64)
    with torch.no_grad():
        logits, deviation = method.predictor(model, model).with_spread(x, ones)
    p = torch.tensor([0.0, 2.0, 4.0, 6.0]).sigmoid()
    error = p.std(correction=0).item() / 4000**0.5
    assert abs(logits.sigmoid().item() - p.mean().item()) < 4 * error
    assert deviation.item() == pytest.approx(p.std(correction=0).item(), rel=0.05)


@pytest.mark.parametrize("name", ["lstm", "transformer", "dnn"])
def test_a_sample_is_predicted_the_same_in_any_batch(name):
    shape = (5, 1, 28, 28) if name == "dnn" else (5, 7, 76)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lengths = torch.ones(5, dtype=torch.int64) if name == "dnn" else torch.tensor([7, 2, 3, 1, 5])
    model = create(name, 2, generator=torch.Generator().manual_seed(1))
    _, _, predict = monte_carlo(model, rate=0.5, passes=3)
    alone = torch.cat([predict(x[i : i + 1], lengths[i : i + 1]) for i in (3, 1)])
    assert torch.allclose(predict(x, lengths)[[3, 1]], alone, atol=1e-5)
    assert not torch.allclose(predict(x, lengths), model(x, lengths), atol=1e-3)


def test_patterns_have_mean_one_and_begin_alike():
    keep = fixed_keep((100, 1000), 0.25, 0, 0)
    assert keep.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert abs(keep.mean().item() - 1) < 0.01
    assert torch.equal(fixed_keep((3, 1000), 0.25, 0, 0), keep[:3])
    assert not torch.equal(fixed_keep((3, 1000), 0.25, 0, 1), keep[:3])


def test_without_dropping_it_is_the_plain_prediction():
    model = create("dnn", 3, hidden=[20])
    x, ones = torch.randn(4, 784), torch.ones(4, dtype=torch.int64)
    _, model, predict = monte_carlo(model, make_fit(target="multiclass"), rate=0.0)
    plain = model(x, ones).softmax(1)
    assert torch.allclose(predict(x, ones).softmax(1), plain, atol=1e-6)


def test_validation_within_a_fit_takes_one_pass():
    model, fit = linear_model([[1.0]]), make_fit()
    method, model, _ = monte_carlo(model, fit)
    method.tick("before_validation", fit)
    assert method.predictor(model, model) is model
    method.tick("epoch_end", fit)
    assert method.predictor(model, model) is not model


@pytest.mark.parametrize(("option", "value"), [("rate", 1), ("passes", 1)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(InputError, match=f"{option} must be .*, got {value}"):
        methods.create("mc_dropout", **{option: value})


def test_files_have_deviations_and_reports_leave_them_out(tmp_path):
    store = write_store(tmp_path / "store", num_subjects=90, hours=(48, 50))
    settings = {
        "task": "in_hospital_mortality",
        "model": {"lstm": {"units": 4}},
        "regularisers": [{"mc_dropout": {"passes": 3}}],
        "training": {"normalizer": "fitted", "max_epochs": 1},
    }
    run = tmp_path / "run"
    train(resolve(settings), store, run)
    table = pl.read_parquet(run / "predictions_test.parquet")
    outputs = [name.removeprefix("p") for name in table.columns if name.startswith("p")]
    assert table.columns == ["row", *(f"p{c}" for c in outputs), *(f"sd{c}" for c in outputs)]
    deviation = table.select(pl.col(r"^sd\d+$")).to_numpy()
    assert (deviation > 0).all()
    assert (deviation < 0.5).all()
    assert evaluate(run) == read_scores(run)
    (trial,) = collect([run]).trials
    read = read_predictions(trial, Store.open(store))
    assert np.array_equal(read.p, table.select(pl.col(r"^p\d+$")).to_numpy())
    export(run, tmp_path)
    served = ServedModel.load(tmp_path)
    found = table.join(predict_store(served, Store.open(store), Progress()), on="row")
    for c, name in zip(outputs, served.outputs, strict=True):
        assert (found[name] - found[f"p{c}"]).abs().max() < 1e-6
        assert (found[f"{name}_sd"] - found[f"sd{c}"]).abs().max() < 1e-6
