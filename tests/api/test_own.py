"""Models and methods of one's own: from a notebook cell, a module, an installed package."""

import importlib
import sys
from importlib.metadata import EntryPoint

import pytest
import torch

import mimic_reg as mr
from mimic_reg import experiments, learners, methods, models
from mimic_reg.engine.trainer import Trainer
from mimic_reg.experiments.identity import code_of
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.models.base import Model
from mimic_reg.settings import plugins
from mimic_reg.settings.sources import hash_source
from tests.api.own import Mean, Noise

TASK = "in_hospital_mortality"
CELL = '''
import torch
from math import sqrt
from numpy import exp
from torch import nn, ones
import mimic_reg as mr

SCALE = 2.0

def halve(x):
    return x / SCALE

class Net(nn.Module):
    """A linear model of the mean hour."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.out = nn.Linear(n_features, n_outputs)  # one layer

    def forward(self, x, lengths):
        assert sqrt(4) == 2 and exp(0) == ones(1)  # of libraries
        return self.out(halve(x).sum(1) / lengths[:, None])

class Shrink(mr.Regulariser):
    def __init__(self, weight: float = 0.1):
        self.weight = weight

    def loss(self, loss, step, fit):
        return loss + self.weight * step.model.trunk.out.weight.square().sum()
'''


def test_classes_of_a_notebook_are_trained_and_found_again(store, notebook, tmp_path):
    cell = notebook(CELL)
    weak, strong = (
        mr.fit(store, TASK, cell.Net, [mr.component(cell.Shrink, weight=w)], out=tmp_path / str(w),
               max_epochs=1)
        for w in (0.0, 10.0)
    )  # fmt: skip
    assert weak.model == "__main__:Net"
    assert weak.method == "__main__:Shrink"
    size = [run.network.trunk.out.weight.norm() for run in (weak, strong)]
    assert size[1] < size[0]
    again = mr.open_run(tmp_path / "10.0")
    assert (again.predict() == strong.predict()).all()
    assert mr.compare([weak, strong])["n"].tolist() == [1]
    notebook(CELL.replace("x / SCALE", "x * SCALE"))  # another model of the same name
    with pytest.raises(mr.InputError, match="The source of __main__:Net is not the one"):
        mr.open_run(tmp_path / "10.0").predict()
    notebook("del Net")
    with pytest.raises(mr.InputError, match=r"no 'Net' in this script or notebook.*Run the cell"):
        mr.open_run(tmp_path / "10.0").predict()


def test_a_result_is_not_reused_for_another_source(store, notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = set()
    for text in (CELL, CELL.replace("SCALE = 2.0", "SCALE = 3.0")):
        run = mr.fit(store, TASK, notebook(text).Net, max_epochs=1)
        folders.add(run.folder)
    assert len(folders) == 2
    assert mr.mean_scores(sorted(folders))["n"].tolist() == [1, 1]  # not two runs of one model


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("x / SCALE", "x * SCALE", False),
        ("SCALE = 2.0", "SCALE = 3.0", False),
        ("n_outputs)  #", "n_outputs, bias=False)  #", False),
        ("sqrt(4) == 2", "sqrt(4) == '2'", False),
        ("A linear model", "The linear model", True),
        ("# one layer", "# a layer", True),
        ("self.weight * step", "step", True),  # of another class
    ],
)
def test_what_counts_as_the_source_of_a_notebook_class(notebook, old, new, same):
    assert old in CELL
    hashes = []
    for text in (CELL, CELL.replace(old, new)):
        notebook(text)
        hashes.append(hash_source("mimic_reg.models", "__main__:Net"))
    assert (hashes[0] == hashes[1]) is same


def test_a_global_without_a_plain_value_is_refused(notebook):
    cell = notebook(CELL.replace("SCALE = 2.0", "SCALE = torch.ones(1)"))
    with pytest.raises(mr.InputError, match="'SCALE' of the notebook, a Tensor, whose value"):
        mr.component(cell.Net)


def test_a_class_without_source_is_refused(notebook):
    cell = notebook(CELL, source=False)
    with pytest.raises(mr.InputError, match="the source of Net is not available"):
        mr.component(cell.Net)


def _local():
    class Local(mr.Regulariser):
        pass

    return Local


class Any(mr.Regulariser):
    def __init__(self, **options):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mr.component(_local()), "within a function"),
        (lambda: mr.component(Any), r"options must have names.*\*\*options"),
        (lambda: mr.component(Noise(0.1)), "A class is needed"),
        (lambda: mr.component(dict), "derives from torch.nn.Module"),
        (lambda: mr.component(Noise, sdt=1.0), "no option 'sdt'. Did you mean 'std'"),
        (lambda: mr.component(Noise, std=torch.ones(1)), "'std' is a Tensor"),
        (lambda: resolve({"task": TASK, "model": "os:system"}), "got the builtin_function"),
        (lambda: resolve({"task": TASK, "model": "subprocess:Popen"}), "got the class"),
        (lambda: resolve({"task": TASK, "model": "torch.nn.Linear"}), "package.module:Class"),
        (lambda: resolve({"task": TASK, "model": "no_such:Net"}), "no module 'no_such'"),
        (lambda: resolve({"task": TASK, "model": "tests.api.own:Maen"}), "Did you mean 'Mean'"),
        (lambda: methods.create("tests.api.own:Mean"), "derives from mimic_reg.Regulariser"),
        (lambda: plugins.load_plugin("mimic_reg.probes", "a:B"), "probes are modules of mimic-reg"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(mr.InputError, match=message):
        make()


def test_dotted_names_in_settings(tmp_path):
    path = tmp_path / "noise.yaml"
    path.write_text("regularisers:\n- tests.api.own:Noise: {std: 0.3}\n")
    trial = compose_trial(TASK, "tests.api.own:Mean", str(path))
    assert trial.model.entry() == {"tests.api.own:Mean": {"hidden": 4}}
    assert trial.sources.keys() == {"tests.api.own:Mean", "tests.api.own:Noise"}
    assert compose_trial(TASK, "lstm", "tests.api.own:Noise").method == "tests.api.own:Noise"
    for name, message in (
        ("tests.api.own.Mean", "Unknown model 'tests.api.own.Mean'. A class of another"),
        ("tests.api.own:Mean", "'itps' has no values for 'tests.api.own:Mean'"),
    ):
        path.write_text(f"{name}: {{hidden: 3}}\n")
        with pytest.raises(mr.InputError, match=message):
            compose_trial(TASK, str(path), "itps")
        assert compose_trial(TASK, "tests.api.own:Mean", "lstm/itps").method == "itps"
    grid = {"tasks": [TASK], "models": ["tests.api.own:Mean"], "methods": ["none"]}
    (planned,) = experiments.plan(experiments.parse({"name": "x", "title": "X", "grids": [grid]}))
    assert ":" not in planned.folder_name("data")
    assert code_of(planned.trial)


def test_names_of_installed_packages(monkeypatch):
    def points(package):
        place = {"mimic_reg.models": "mean = tests.api.own:Mean"}.get(package)
        return (EntryPoint(*place.split(" = "), package),) if place else ()

    monkeypatch.setattr(plugins, "_entry_points", points)
    assert "mean" in models.names()
    assert mr.models.mean(hidden=3).entry() == {"mean": {"hidden": 3}}
    trial = compose_trial(TASK, "mean", "tests.api.own:Noise")
    assert trial.sources.keys() == {"mean", "tests.api.own:Noise"}
    double = lambda package: points("mimic_reg.models") * 2  # noqa: E731
    monkeypatch.setattr(plugins, "_entry_points", double)
    with pytest.raises(mr.InputError, match="'mean' is ambiguous: installed packages offer"):
        models.create("mean", shape=(3,))
    taken = (EntryPoint("lstm", "tests.api.own:Mean", "mimic_reg.models"),)
    monkeypatch.setattr(plugins, "_entry_points", lambda package: taken)
    with pytest.raises(mr.InputError, match="'lstm' is ambiguous"):
        models.create("lstm", shape=(3,))


def test_a_module_that_changes_after_its_import_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_net.py"
    (tmp_path / "own_parts.py").write_text("SIZE = 3\n")
    text = (
        "import own_parts\nimport torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
    )
    path.write_text(text + "        super().__init__()\n")
    first = hash_source("mimic_reg.models", "own_net:Net")
    (tmp_path / "own_parts.py").write_text("SIZE = 30\n")
    with pytest.raises(mr.InputError, match=r"own_parts\.py has changed since it was imported"):
        hash_source("mimic_reg.models", "own_net:Net")
    importlib.reload(sys.modules["own_parts"])
    assert hash_source("mimic_reg.models", "own_net:Net") != first


def test_what_a_model_draws_depends_on_the_seed_alone(store, tmp_path, monkeypatch):
    """Its start and its dropout, also where the fit is cut off and goes on."""
    others = {"max_epochs": 2, "batch_size": 8}
    whole = mr.fit(store, TASK, Mean, [Noise], out=tmp_path / "whole", **others)
    step, done = Trainer.step, []

    def stop(self, *, last):
        step(self, last=last)
        done.append(self)
        self.interrupted = len(done) == 8

    monkeypatch.setattr(Trainer, "step", stop)
    torch.manual_seed(1)
    with pytest.raises(mr.MimicRegError, match="the same call goes on"):
        mr.fit(store, TASK, Mean, [Noise], out=tmp_path / "cut", **others)
    torch.rand(3)
    cut = mr.fit(store, TASK, Mean, [Noise], out=tmp_path / "cut", **others)
    assert len(done) > 8
    assert (cut.predict() == whole.predict()).all()
    expected = torch.rand(1, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    whole.predict()
    model = models.create("tests.api.own:Mean", shape=(3,), generator=torch.Generator())
    model.train()(torch.ones(1, 2, 3), torch.tensor([2]))
    assert torch.rand(1) == expected  # torch's own generator is as it was


class Squeezed(Mean):
    def forward(self, x, lengths):
        return super().forward(x, lengths)[:, 0]


class NoLengths(Mean):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("name", "act", "message"),
    [
        ("Squeezed", lambda m: m(torch.ones(2, 3, 4), torch.tensor([3, 3])), r"\(2, 1\).*got \(2,"),
        ("Mean", lambda m: m.fill_sites(torch.nn.Dropout), "has no site"),
        ("Mean", lambda m: models.base.require_head(m, "x"), "x needs a model with a trunk and"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(name, act, message):
    module = "test_own" if name == "Squeezed" else "own"
    model = models.create(f"tests.api.{module}:{name}", shape=(4,))
    assert isinstance(model, Model)
    with pytest.raises(mr.InputError, match=message):
        act(model)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("test_own:NoLengths", (4,), r"forward must take \(x, lengths\)"),
        ("own:Mean", (1, 8, 8), "asks for n_features"),
    ],
)
def test_a_class_that_does_not_fit_the_data_is_refused(name, shape, message):
    with pytest.raises(mr.InputError, match=message):
        models.create(f"tests.api.{name}", shape=shape)


def test_settings_from_python_are_those_of_modules():
    assert mr.methods.itps(tau=0.2).options["tau"] == 0.2
    assert mr.models.lstm(units=4).entry() == {"lstm": {"units": 4}}
    with pytest.raises(
        AttributeError, match=r"no 'itsp' in mimic_reg.methods[.] Did you mean 'itps'"
    ):
        mr.methods.itsp  # noqa: B018
    with pytest.raises(mr.InputError, match=r"no option 'taw'[.] Did you mean 'tau'"):
        mr.methods.itps(taw=1)
    assert learners.trials.takes_methods("tests.api.own:Mean")
