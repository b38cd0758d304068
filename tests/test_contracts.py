"""What every method and probe promises, whoever wrote it. They are found, not listed.

Its test module, `tests/methods/test_<name>.py` (or `tests/probes/`), holds its options here as
`CONTRACT`; and as `MODEL` the model, where a small LSTM is none that it fits.
"""

import importlib
import inspect
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mimic_reg import methods, probes, tasks
from mimic_reg.clinical.schema import PHENOTYPES
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Composite, Fit, Regulariser
from mimic_reg.metrics.scores import score
from mimic_reg.runs import CHECKPOINT
from mimic_reg.samples import from_arrays, load
from mimic_reg.samples.base import make_samples
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training, find_module, is_probe
from mimic_reg.store import Store
from tests.networks import create
from tests.reference_loop import Loop
from tests.stores import write_store

TASK = tasks.get("phenotyping").model_copy(update={"labels": PHENOTYPES[:3]})
STREAMS = Streams(seed=0, purpose=TASK.name)
EPOCHS, SIZE = 2, 8
# methods whose steps wait for a GPU: lengths, which are on the CPU, follow from what is drawn there
WAITS = ("mixup",)
SHAPE = (1, 6, 6)  # of an image

each_method = pytest.mark.parametrize("name", [*methods.names(), *probes.names()])


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, num_subjects=60, hours=(10, 16), num_phenotypes=3)
    return load(Store.open(folder), TASK, normalizer="fitted")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.5).astype(np.int8)
    values = rng.normal(labels.sum(1)[:, None, None, None], 1, (60, *SHAPE)).astype(np.float32)
    everything = from_arrays(values, labels, "multilabel")
    parts = {"train": range(40), "val": range(40, 50), "test": range(50, 60)}
    return {split: everything.keep(np.array(at)) for split, at in parts.items()}


@pytest.fixture
def samples(name, hours, images):
    return hours if "lstm" in str(network(name)) else images


def on_gpu(samples):
    """The same samples, on the GPU."""
    units = samples["train"].units
    tensors = {n: v.cuda() for n, v in vars(units).items() if torch.is_tensor(v)}
    units = replace(units, **tensors)
    return {
        split: make_samples(
            units, part.target, *(v.numpy() for v in (part.unit, part.length, part.label)), part.row
        )
        for split, part in samples.items()
    }


class Spy(Regulariser):
    """Keeps the weights at the start, which of them are made of others, and each step's samples."""

    def __init__(self):
        self.start, self.made, self.indices = {}, set(), []

    def prepare(self, model, fit):
        model.eval()  # what a parametrisation makes of a weight may be random in training
        for key, value in model.state_dict().items():
            made = key.endswith(".original")
            name = key.replace("parametrizations.", "").removesuffix(".original") if made else key
            self.start[name] = (attrgetter(name)(model) if made else value).detach().clone()
            self.made |= {name} - {key}
        model.train()
        return model

    def batch(self, batch, fit):
        self.indices.append(batch.index.tolist())
        return batch


class KilledAt(Regulariser):
    """Ends the program after a step."""

    def __init__(self, step):
        self.step = step

    def tick(self, event, fit):
        if event == "step" and fit.step == self.step:
            raise KeyboardInterrupt


def contract(name):
    """The method, with its options for these tests."""
    return methods.create(name, **module_of(name).CONTRACT)


def module_of(name):
    """The test module of a method or probe."""
    room = methods.package_of(name).rpartition(".")[2]
    return importlib.import_module(f"tests.{room}.test_{name}")


def network(name):
    """The model that the method is tested on, with its settings."""
    return getattr(module_of(name), "MODEL", {"lstm": {"units": 4}})


def model(name):
    ((network_name, settings),) = network(name).items()
    shape = None if "lstm" in network_name else SHAPE
    return create(network_name, 3, shape=shape, generator=STREAMS.init(), **settings)


def attributes(names):
    """What the store would know of the training samples."""
    rng = np.random.default_rng(0)
    return {name: rng.choice(["a", "b", "c"], 1000) for name in names}


def reference(method, samples, name):
    """The fit as a plain loop, on the model of the method called `name`."""
    train, validation = samples["train"], samples["val"]
    epoch_steps = -(-len(train) // SIZE)
    everything = validation.gather(torch.arange(len(validation)))

    def batches(epoch):
        order = train.training_order(SIZE, STREAMS.batches(epoch))
        return [train.gather(index) for index in order.split(SIZE)]

    def validate(predict):
        p = predict(everything.x, everything.lengths).sigmoid()
        return score(TASK.target, everything.y.numpy(), p.numpy())[TASK.score].value

    fit = Fit(
        target=TASK.target,
        num_outputs=3,
        num_train=len(train),
        epoch_steps=epoch_steps,
        max_epochs=EPOCHS,
        generator=STREAMS.stochastic(torch.device("cpu")),
        record=lambda name, value: None,
        train=train,
        validation=validation,
        attributes=attributes,
    )
    return Loop(model(name), method, fit, batches, validate)


def trainer(method, samples, folder, name):
    """The same fit in the engine; a checkpoint after each step."""
    folder.mkdir(exist_ok=True)
    return Trainer(
        model(name),
        method,
        samples["train"],
        samples["val"],
        num_outputs=3,
        selected_by=TASK.score,
        training=Training(max_epochs=EPOCHS, batch_size=SIZE),
        streams=STREAMS,
        folder=folder,
        checkpoint_seconds=0.0,
        attributes=attributes,
    )


def state(loop):
    """What decides how a fit goes on."""
    return {
        "model": loop.model.state_dict(),
        "optimizer": loop.optimizer.state_dict(),
        "method": loop.method.state_dict(),
        "generator": loop.fit.generator.get_state(),
    }


def flat(tree, path=""):
    """The leaves of a nested state, by their path."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {k: v for key, part in items for k, v in flat(part, f"{path}/{key}").items()}
    return {path: tree}


def assert_same(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for key, value in a.items():
        equal = torch.equal(value, b[key]) if torch.is_tensor(value) else value == b[key]
        assert equal, f"{key} differs"


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def fits(name, samples, made):
    """The reference fit of a method on this method's model, made once."""

    def fit(method):
        key = method, str(network(name))
        if key not in made:
            made[key] = reference(contract(method), samples, name)
            made[key].run()
        return made[key]

    return fit


@each_method
def test_its_neutral_setting_is_the_baseline(name, samples, fits):
    method = contract(name)
    if method.neutral is None:
        assert "\nNo neutral setting: " in find_module(methods.package_of(name), name).__doc__
        return
    neutral = reference(methods.create(name, **method.neutral), samples, name)
    neutral.run()
    assert neutral.fit.step == fits("none").fit.step == EPOCHS * neutral.fit.epoch_steps
    assert_same(neutral.model.state_dict(), fits("none").model.state_dict())


@each_method
def test_resumed_is_uninterrupted(name, samples, fits):
    """In each of the two epochs, of five steps."""
    interrupted = reference(contract(name), samples, name)
    for at in (4, 9):
        interrupted.run(until=at)
        resumed = reference(contract(name), samples, name)
        resumed.load(interrupted.save())
        resumed.run()
        assert_same(state(resumed), state(fits(name)))


@each_method
def test_in_the_engine_it_is_as_in_the_plain_loop_also_after_a_kill(name, samples, fits, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer(Composite([contract(name), KilledAt(9)]), samples, tmp_path, name).run()
    resumed = trainer(Composite([contract(name), Regulariser()]), samples, tmp_path, name)
    assert resumed.run() == "finished"
    saved = load_state(tmp_path / CHECKPOINT)
    saved["method"] = saved["method"]["0"]
    expected = state(fits(name))
    assert_same({key: saved[key] for key in expected}, expected)


@each_method
def test_prediction_is_deterministic_and_leaves_the_fit_alone(name, samples, fits):
    loop = fits(name)
    before = {k: v.clone() for k, v in flat(state(loop)).items() if torch.is_tensor(v)}
    batch = samples["test"].gather(torch.arange(len(samples["test"])))
    predictions = [loop.predictor()(batch.x, batch.lengths) for _ in range(2)]
    assert torch.equal(*predictions)
    assert predictions[0].shape == (len(samples["test"]), 3)
    after = flat(state(loop))
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.fixture
def seen_by_none(name, samples, made, tmp_path):
    """What a spy sees in a fit of this method's model without a method."""
    key = "seen", str(network(name))
    if key not in made:
        made[key] = Spy()
        trainer(Composite([contract("none"), made[key]]), samples, tmp_path / "none", name).run()
    return made[key]


@each_method
def test_methods_start_from_the_same_weights_and_see_the_same_batches(
    name, samples, seen_by_none, tmp_path
):
    spy, global_stream = Spy(), torch.get_rng_state()
    trainer(Composite([contract(name), spy]), samples, tmp_path / "method", name).run()
    assert torch.equal(torch.get_rng_state(), global_stream), "it draws from the global generator"
    assert spy.indices == seen_by_none.indices
    steps = len(spy.indices)
    assert steps == EPOCHS * -(-len(samples["train"]) // SIZE)
    assert spy.indices[: steps // 2] != spy.indices[steps // 2 :]
    for key, value in seen_by_none.start.items():
        same = torch.allclose if key in spy.made else torch.equal
        assert same(value, spy.start[key]), key


class Reads(TorchDispatchMode):
    """Counts what would wait for a GPU: reading a number that is no length, selecting by a mask."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "_local_scalar_dense" and args[0].dtype != torch.int64:
            self.found.append(name)
        masks = name.startswith("index") and isinstance(args[1], list | tuple)
        if masks and any(t is not None and t.dtype == torch.bool for t in args[1]):
            self.found.append(name)
        if name in ("nonzero", "masked_select", "equal", "multinomial"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts copies between devices that wait: `to` a device without `non_blocking`, and `cpu`."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # torch itself moves norms, which are there already: tensors without a dimension
        to = func is torch.Tensor.to and any(isinstance(a, torch.device) for a in args)
        to = to and args[0].dim() > 0
        if func is torch.Tensor.cpu or (to and not kwargs.get("non_blocking")):
            self.found.append(func.__name__)
        return func(*args, **kwargs)


def warm(method, samples, folder, name):
    """A fit after its first steps, in which buffers are made."""
    made = trainer(method, samples, folder, name)
    made.open(None)
    made.begin_epoch(new=True)
    for _ in range(2):
        made.step(last=False)
    return made


@each_method
def test_a_step_reads_nothing_from_the_device(name, samples, tmp_path):
    made = warm(contract(name), samples, tmp_path, name)
    with Reads() as reads, Copies() as copies:
        made.step(last=False)
    made.close()
    assert reads.found == []
    assert bool(copies.found) == (name in WAITS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
@each_method
def test_a_step_does_not_wait_for_a_gpu(name, samples, tmp_path):
    made = warm(contract(name), on_gpu(samples), tmp_path, name)
    try:
        torch.cuda.set_sync_debug_mode("error")
        if name in WAITS:
            with pytest.raises(RuntimeError, match="synchronizing"):
                made.step(last=False)
        else:
            made.step(last=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        made.close()


@each_method
def test_its_state_is_plain(name, fits):
    leaves = flat([fits(name).method.state_dict(), fits(name).optimizer.state_dict()])
    allowed = torch.Tensor | bool | int | float | str | None
    assert all(isinstance(leaf, allowed) for leaf in leaves.values())


@each_method
def test_mistakes_in_its_name_and_options_are_named(name):
    with pytest.raises(InputError, match=f"Did you mean '{name}'"):
        methods.create(name + "s")
    options = inspect.signature(find_module(methods.package_of(name), name).build).parameters
    for option in options:
        with pytest.raises(InputError, match=f"Did you mean '{option}'"):
            methods.create(name, **{option + "_": 1})


def test_methods_are_found():
    assert len(methods.names()) >= 10
    assert "base" not in methods.names()
    assert probes.names() == [n for n in (*methods.names(), *probes.names()) if is_probe(n)] != []
