import re
from dataclasses import asdict, replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score

from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import Score
from mimic_reg.report.figures import curves as fg
from mimic_reg.report.figures import drawing as dr
from mimic_reg.report.figures import selection as sf
from mimic_reg.report.figures.drawn import draw
from mimic_reg.report.predictions import Predictions, read_predictions
from mimic_reg.report.results import collect
from mimic_reg.report.tables import main_tables
from mimic_reg.settings import WHOLE, training_size
from mimic_reg.store import Store, read_json, write_json
from tests.report.runs import history, settings, write_run, write_sweep
from tests.stores import write_store

RNG = np.random.default_rng(0)
LOOK = dr.styles(["none", "itps"])


def supervision(table):
    return fg.supervision_figure(table, dr.styles(table.methods))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_store(tmp_path_factory.mktemp("store"), num_subjects=300, hours=(48, 49))
    return Store.open(folder)


@pytest.fixture(scope="module")
def results(store, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    methods = ("none", "dropout", "itps")
    write_sweep(root, store=store, methods=methods, seeds=range(2), predictions=True)
    return collect([root])


def test_a_figure_leaves_matplotlib_as_it_was(results):
    before = dict(mpl.rcParams)
    dr.svg(supervision(main_tables(results)[0]))
    assert dict(mpl.rcParams) == before


def test_supervision_lines_and_bands(results):
    figure = supervision(main_tables(results)[0])
    (ax,) = figure.axes
    assert len(ax.lines) == 3
    assert list(ax.lines[0].get_xdata()) == [25, 100]
    assert len(ax.collections) == 3
    assert ax.get_xlabel() == "supervision (% of the training samples)"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["none", "dropout", "itps"]


@pytest.mark.parametrize("levels", [(0.25,), (0.25, 1.0)], ids=str)
def test_the_best_possible_score_of_simulated_patients_is_drawn(tmp_path, levels):
    store = Store.open(write_store(tmp_path / "store", num_subjects=40, hours=(48, 49)))
    write_sweep(tmp_path / "runs", store=store, methods=("none", "itps"), levels=levels)
    manifest = dict(store.manifest)
    best = {"in_hospital_mortality": {"val": {"auroc": 0.9}, "test": {"auroc": 0.87}}}
    write_json(store.folder / "manifest.json", manifest | {"source": {"best_possible": best}})
    drawn = draw(collect([tmp_path / "runs"]), [Store.open(store.folder)])
    (figure,) = [d.figure for d in drawn if d.section == "supervision"]
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == fg.TRUE_RISK]
    assert 0.87 in {*line.get_xdata(), *line.get_ydata()}


def test_one_level_shows_every_seed(tmp_path):
    write_sweep(tmp_path, levels=(0.25,), seeds=range(4))
    (ax,) = supervision(main_tables(collect([tmp_path]))[0]).axes
    assert len(ax.get_yticks()) == 6
    assert sum(len(line.get_xdata()) == 4 for line in ax.lines) == 6


def test_of_many_methods_the_best_have_colours_and_the_others_are_grey(tmp_path):
    for number in range(12):
        for level in (0.25, 1.0):
            trial = settings(({"dropout": {"rate": number / 20}},), supervision=level)
            scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7 + number / 100}}
            write_run(tmp_path / f"{number}-{level}", trial, scores, epochs=history(RNG, 0.7))
    (drawn,) = (d for d in draw(collect([tmp_path])) if d.section == "supervision")
    (ax,) = drawn.figure.axes
    grey = [line for line in ax.lines if line.get_color() == dr.GRID]
    assert sorted(line.get_ydata()[-1] for line in grey) == pytest.approx([0.7, 0.71, 0.72])
    assert len(ax.lines) == 12
    assert "Shown: the 9 of 12 methods" in drawn.caption
    assert drawn.caption.endswith("Grey: the means of the others.")


def test_curves_of_many_methods_are_those_of_the_best_and_the_baseline(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        method = ({"dropout": {"rate": number / 20}},) if number else ("none",)
        scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.6 + number / 100}}
        write_run(tmp_path / str(number), settings(method), scores, epochs=history(rng, 0.7))
    (training,) = (d for d in draw(collect([tmp_path])) if d.section == "training")
    names = [text.get_text() for text in training.figure.legends[0].get_texts()]
    assert len(names) == 10
    assert "none" in names
    assert not any("0.05" in name or "0.1)" in name for name in names)  # the worst two
    assert "Shown: the 9 of 12 methods" in training.caption


def _is_title(artist):
    return isinstance(artist, Text) and "itps" in artist.get_text()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("levels", [(1.0,), (0.25, 1.0)])
def test_long_names_fit_into_figures(tmp_path, levels):
    for number in range(24):
        for level in levels:
            options = {"tau": number / 100, "mode": f"freeze{number}", "latch": number % 2 == 0}
            both = ({"spectral_dropout": {"tau": number / 100}}, {"itps": options})
            trial = settings(both, supervision=level)
            scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}}
            epochs = history(np.random.default_rng(0), 0.7, num_epochs=2)
            write_run(tmp_path / f"{number}-{level}", trial, scores, epochs=epochs)
    results = collect([tmp_path])
    name = max((t.method for t in results.trials), key=len)
    assert len(name) > 60
    table = main_tables(results)[0]
    for figure in (
        supervision(table),
        fg.training_figure(results.trials, WHOLE, dr.styles(results.methods())),
    ):
        dr.svg(figure)
        names = [text for legend in figure.legends for text in legend.get_texts()]
        for ax in figure.axes:
            names += [*ax.get_yticklabels(), *filter(_is_title, ax.get_children())]
        for box in (text.get_window_extent() for text in names):
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1 + 1


def test_a_method_without_a_score_is_called_undefined(tmp_path):
    write_sweep(tmp_path, levels=(0.25,), seeds=range(2), methods=("none", "itps"))
    nothing = Score(None, reason="one class only")
    for path in tmp_path.glob("*-none-*/scores.json"):
        content = read_json(path)
        content["scores"]["test"]["auroc"] = asdict(nothing)
        write_json(path, content)
    figure = supervision(main_tables(collect([tmp_path]))[0])
    assert "undefined" in dr.svg(figure).decode()


def test_selected_parameters_are_drawn_for_itps_only(results):
    figure = sf.selection_figure(results.trials)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["itps"]
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert len(drawn) == 2 * 2 * 2  # levels, seeds, ever and now
    assert sf.selection_figure([t for t in results.trials if t.method != "itps"]) is None


def test_training_means_go_as_far_as_all_seeds_do(results):
    figure = fg.training_figure(results.trials, WHOLE, dr.styles(results.methods()))
    losses, scores = figure.axes
    shortest = min(len(t.epochs()) for t in results.trials)
    assert {len(line.get_xdata()) for line in losses.lines} == {shortest}
    assert scores.get_ylabel() == "validation AUROC"
    with pytest.raises(InputError, match="no trial at 50 %"):
        fg.training_figure(results.trials, training_size(0.5), LOOK)


def test_predictions_are_joined_with_labels_only(results, store):
    trial = results.trials[0]
    found = read_predictions(trial, store)
    table = store.read("tasks/in_hospital_mortality.parquet").filter(pl.col("split") == "test")
    assert found.y.ravel().tolist() == table["y"].to_list()
    assert found.y.shape == found.p.shape
    assert roc_auc_score(found.y.ravel(), found.p.ravel()) > 0.6


def test_predictions_of_another_store_are_refused(results, store, tmp_path):
    other = Store.open(write_store(tmp_path / "other", num_subjects=20, seed=3))
    with pytest.raises(InputError, match="not the store"):
        read_predictions(results.trials[0], other)
    scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}}
    write_run(tmp_path / "run", settings(), scores, store=store)
    (trial,) = collect([tmp_path / "run"]).trials
    with pytest.raises(InputError, match="mimic-reg evaluate"):
        read_predictions(trial, store)
    pl.DataFrame({"row": [10**6], "p0": [0.5]}).write_parquet(
        trial.folder / "predictions_test.parquet"
    )
    with pytest.raises(InputError, match="is not that of"):
        read_predictions(trial, store)


def some(n=400, share=0.3, seed=0):
    """Labels and predictions (n, 1)."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 1)) < share).astype(int)
    return y, 1 / (1 + np.exp(-(2 * y - 1.5 + rng.normal(size=y.shape))))


def test_roc_points_have_the_area():
    y, p = some(4000)
    points = fg.roc_points(y, p)
    assert points.shape == (101,)
    assert points[0] == 0
    assert points[-1] == 1
    assert (np.diff(points) >= 0).all()
    area = np.trapezoid(points, np.linspace(0, 1, 101))
    assert area == pytest.approx(roc_auc_score(y.ravel(), p.ravel()), abs=0.01)


def test_few_patients_have_no_curve():
    y, p = some(40)
    few = y.copy()
    few[np.flatnonzero(y)[9:]] = 0
    assert fg.calibration_points(y[:39], p[:39]) is None
    y, p = some(400)
    one_patient_each = np.where(y.ravel() > 0, np.arange(400), 0)  # one has all negative samples
    for labels, subjects in ((few, None), (1 - few, None), (y, one_patient_each)):
        found = {"none": [predicted(labels, p[: len(labels)], subjects)], "itps": []}
        assert fg.roc_figure(found, LOOK) is None
        assert fg.calibration_figure(found, LOOK) is None
    assert fg.roc_figure({"none": [predicted(y, p)]}, LOOK) is not None


def test_few_validation_samples_have_no_training_curve(results):
    few = [replace(t, num_samples={"validation": 9, "test": 100}) for t in results.trials]
    drawn = [{d.section for d in draw(r)} for r in (results, replace(results, trials=tuple(few)))]
    assert drawn[0] - drawn[1] == {"training"}


def predicted(y, p, subjects=None):
    own = np.arange(len(y))
    return Predictions(y, p, own if subjects is None else subjects, own)


@pytest.mark.parametrize("n", [40, 57, 99, 100, 101, 400, 4003])
def test_calibration_bins_hold_ten_and_everyone_once(n):
    y, p = some(n)
    points = fg.calibration_points(y, p)
    assert points[:, 2].min() >= 10
    assert points[:, 2].sum() == n
    assert 2 <= len(points) <= 10
    positives = (points[:, 1] * points[:, 2]).round()
    for of_a_class in (positives, points[:, 2] - positives):  # no count from 1 to 9 follows
        assert ((of_a_class == 0) | (of_a_class >= 10)).all()
    assert (points[:, 0] * points[:, 2]).sum() == pytest.approx(p.sum())
    assert (points[:, 1] * points[:, 2]).sum() == pytest.approx(y.sum())
    assert (np.diff(points[:, 0]) > 0).all()


def test_equal_predictions_share_a_bin():
    y, p = some(400)
    p = np.round(p, 1)
    starts = fg.calibration_points(y, p)
    assert starts[:, 2].sum() == 400
    edges = np.cumsum(starts[:, 2]).astype(int)[:-1]
    ordered = np.sort(p.ravel())
    assert (ordered[edges - 1] < ordered[edges]).all()
    assert fg.calibration_points(y, np.full_like(p, 0.3)) is None


def test_trials_are_pooled_with_ten_samples_of_each():
    predictions = {"none": [predicted(*some(100)), predicted(*some(100))]}
    (ax,) = fg.calibration_figure(predictions, LOOK).axes
    y, p = (np.concatenate([getattr(each, n) for each in predictions["none"]]) for n in "yp")
    assert (ax.lines[1].get_xdata() == fg.calibration_points(y, p, 20)[:, 0]).all()
    (ax,) = fg.roc_figure(predictions, LOOK).axes
    assert len(ax.lines[1].get_xdata()) == 101


def test_styles_are_distinct_and_the_baseline_is_plain():
    names = ["none", *(f"m{i}" for i in range(17))]
    drawn = dr.styles(names)
    assert drawn["none"].color == dr.PLAIN
    assert len({(s.color, str(s.dashes)) for s in drawn.values()}) == 18


def test_files_are_the_same_each_time(results, tmp_path):
    table = main_tables(results)[0]
    for name in ("a.png", "a.svg"):
        one = dr.save(supervision(table), tmp_path / "1" / name).read_bytes()
        two = dr.save(supervision(table), tmp_path / "2" / name).read_bytes()
        assert one == two
    assert (tmp_path / "1" / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"\.pdf"):
        dr.save(supervision(table), tmp_path / "a.pdf")


def test_inline_svg_is_transparent_with_ids_of_its_own(results):
    text = dr.inline_svg(supervision(main_tables(results)[0]), "one", 'a "b" < c')
    assert '<svg role="img" aria-label="a &quot;b&quot; &lt; c" ' in text
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert "width" not in root.attrib
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert ids
    assert all(i.startswith("one-") for i in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) <= set(ids)
    assert "currentColor" in text
    assert "http" not in text
    assert ">dropout</text>" in text


def test_names_are_text_not_mathematics_or_markup(tmp_path):
    trial = settings(({"odd_$x^2$<i>": {}},))
    write_run(tmp_path / "1", trial, {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}})
    text = dr.inline_svg(supervision(main_tables(collect([tmp_path]))[0]), "x", "y")
    assert "odd_$x^2$&lt;i&gt;" in text
