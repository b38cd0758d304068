"""One flipped bit in a file: it is refused with a sentence, or changes nothing.

`kinds` makes one small file of every kind and says what is made of it. `benchmarks/faults.py` flips
many bits, `tests/security/test_fuzz.py` some of them.
"""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from mimic_reg.clinical.schema import CHANNELS
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.multitask import fit as multitask
from mimic_reg.progress import Progress
from mimic_reg.report.results import collect
from mimic_reg.samples import load
from mimic_reg.serving import ServedModel, export
from mimic_reg.sources.images import import_images
from mimic_reg.store import Store
from tests.faults.kills import bits, of_run
from tests.multitask.fits import multi
from tests.raw import small_source
from tests.sources.images import write_pictures
from tests.stores import write_store

TASK = "in_hospital_mortality"
SETTINGS = {
    "task": TASK,
    "model": {"lstm": {"units": 2}},
    "training": {"max_epochs": 4, "batch_size": 16, "normalizer": "fitted", "learning_rate": 0.01},
}

Came = Literal["refused", "without effect", "PASSED"]


@dataclass
class Kind:
    """A file of some kind, and what is made of it: a value that can be compared."""

    path: Path
    use: Callable[[], Any]
    folder: Path | None = None  # of what `use` changes

    def flip(self, seed: int | str) -> Came:
        """Flip a bit that the seed chooses, use the file, and bring it back."""
        expected = self.expected
        content = bytearray(self.path.read_bytes())
        bit = random.Random(seed).randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        with self._kept():
            self.path.write_bytes(content)
            try:
                return "without effect" if repr(self.use()) == expected else "PASSED"
            except MimicRegError:
                return "refused"

    @cached_property
    def expected(self) -> str:
        """What is made of the sound file, to the last bit, and nan as itself."""
        with self._kept():
            return repr(self.use())

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Bring everything back afterwards."""
        sound = self.path.read_bytes()
        kept = self.path.parent.with_name("kept")
        if self.folder:
            shutil.copytree(self.folder, kept)
        try:
            yield
        finally:
            if self.folder:
                shutil.rmtree(self.folder)
                kept.rename(self.folder)
            self.path.write_bytes(sound)


class _Stop(Progress):
    """Ends a fit in its third epoch, as a kill would."""

    def note(self, text: str) -> None:
        if "epoch 3 " in text:
            raise KeyboardInterrupt


def kinds(place: Path) -> dict[str, Kind]:
    """Make a file of every kind in a new folder; by name."""
    cohort = write_store(place / "cohort", num_subjects=20, hours=(48, 50))
    extracted = place / "extracted"
    extract(small_source().write(place / "raw"), extracted)
    images = place / "images"
    import_images(write_pictures(place / "pictures"), images)
    made = {
        f"store: {name}": Kind(cohort / name, lambda: _samples(cohort, TASK))
        for name in ("hourly.parquet", f"tasks/{TASK}.parquet", f"normalizers/{TASK}.json")
    }
    made["store: manifest.json"] = Kind(cohort / "manifest.json", lambda: _opened(cohort))
    for name in ("stays", "diagnoses", "episodes", "episode_texts"):
        file = f"{name}.parquet"
        made[f"store: {file}"] = Kind(extracted / file, lambda f=file: _table(extracted, f))
    made["store: audit.json"] = Kind(
        extracted / "audit.json", lambda: Store.open(extracted).path("audit.json").read_bytes()
    )
    made["store: images.safetensors"] = Kind(
        images / "images.safetensors", lambda: _samples(images, "image_classification", "unit")
    )
    return made | _of_runs(place, cohort) | _of_fits(place, cohort)


def _of_runs(place: Path, store: Path) -> dict[str, Kind]:
    run, half = place / "run", place / "half"
    train(resolve(SETTINGS), store, run, device="cpu")
    _begin(lambda: train(resolve(SETTINGS), store, half, progress=_Stop(), device="cpu"))

    def finished() -> Any:
        train(resolve(SETTINGS), store, half, device="cpu")
        return of_run(half), (half / "trial.json").read_bytes()

    made = {
        f"run: {name}": Kind(run / name, lambda: _reported(run))
        for name in (
            *("trial.json", "history.jsonl", "scores.json", "done.json"),
            *("predictions_test.parquet", "predictions_validation.parquet"),
        )
    }
    made["run: best.safetensors"] = Kind(
        run / "best.safetensors", lambda: evaluate(run, device="cpu"), run
    )
    made |= {
        f"run under way: {name}": Kind(half / name, finished, half)
        for name in ("trial.json", "history.jsonl", "best.safetensors", "checkpoint.safetensors")
    }
    return made | _of_models(place, run)


def _of_models(place: Path, run: Path) -> dict[str, Kind]:
    """What the registry holds."""
    model = place / "model"
    model.mkdir()
    export(run, model)
    values = np.random.default_rng(0).normal(size=(30, len(CHANNELS)))

    def predicted() -> Any:
        loaded = ServedModel.load(model)
        return loaded.predict_rows(values, np.array([0, 10]), np.array([10, 20])).tobytes()

    names = ("model.safetensors", "model.yaml")
    return {f"model: {name}": Kind(model / name, predicted) for name in names}


def _of_fits(place: Path, store: Path) -> dict[str, Kind]:
    fit, half = place / "fit", place / "half-fit"
    settings = multi("joint", [{"none": {}}], tasks=(TASK, "decompensation"), max_epochs=4)
    multitask.train(settings, store, fit, device="cpu")
    _begin(lambda: multitask.train(settings, store, half, progress=_Stop(), device="cpu"))

    def trunk() -> Any:
        found = load_trunk(fit)
        return found.fingerprint, found.model, found.origin, found.tasks, found.score

    def finished() -> Any:
        multitask.train(settings, store, half, device="cpu")
        return [of_run(half / task) for task in (TASK, "decompensation")]

    made = {f"fit: {name}": Kind(fit / name, trunk) for name in ("trunk.safetensors", "trunk.yaml")}
    made["fit under way: checkpoint.safetensors"] = Kind(
        half / "checkpoint.safetensors", finished, half
    )
    return made


def _begin(fit: Callable[[], Any]) -> None:
    try:
        fit()
    except KeyboardInterrupt:
        return
    raise AssertionError("it was to be stopped")


def _opened(store: Path) -> Any:
    manifest = Store.open(store).manifest
    return manifest, _samples(store, TASK)


def _samples(store: Path, task: str, normalizer: str = "fitted") -> Any:
    """What a model is fed."""
    opened = Store.open(store)
    found = load(opened, opened.spec.task(task), normalizer=normalizer)
    return {
        name: [bits(t) for t in (s.units.values, s.unit, s.length, s.label)]
        for name, s in found.items()
    }


def _table(store: Path, name: str) -> Any:
    return Store.open(store).read(name).write_json()


def _reported(run: Path) -> Any:
    """What a report says of a run; raises where it lists it as one without a result."""
    found = collect([run])
    for one in found.unfinished:
        raise InputError(one.why)
    (trial,) = found.trials
    tables = [pl.read_parquet(path).write_json() for path in sorted(run.glob("*.parquet"))]
    return trial, trial.history(), tables
