"""Self-supervised training of a trunk on all training stays, without their labels.

This is for hospitals with many stays and few labels: the trunk learns from the stays themselves
(`pretext`), then `finetune` and grids use it as any other trunk. Stays of validation and test are
never used; a tenth of the training subjects is held out to select the epoch.

The folder has `pretraining.json` (settings, data), the engine's files, `trunk.safetensors` and
`trunk.yaml`, and at the end `done.json`. An interrupted fit can go on; a finished one is skipped.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mimic_reg import methods, models
from mimic_reg.engine.devices import find_device
from mimic_reg.engine.interruption import stopping
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.fitting import forget_checkpoints
from mimic_reg.learners.trunk import write_trunk
from mimic_reg.models.base import hourly
from mimic_reg.multitask.changes import change_plain, check_known
from mimic_reg.multitask.pretext import Objective, Pretext, find_cells
from mimic_reg.progress import SILENT, Progress
from mimic_reg.runs import check_finished, finish, is_done
from mimic_reg.samples.unlabelled import load_unlabelled
from mimic_reg.seeds import Streams
from mimic_reg.settings import Component, Settings, Training, checked, suggest
from mimic_reg.settings.files import read_model, read_task
from mimic_reg.settings.plugins import is_plugin
from mimic_reg.store import Store, locked, read_json, write_json
from mimic_reg.threads import DEFAULT_THREADS, torch_threads

DESCRIPTION = "pretraining.json"
IN_WORDS = {"masked": "values that are hidden", "contrastive": "views of the same stay"}


class Pretraining(Settings):
    """The settings of a self-supervised fit.

    task:        for its normaliser, and its hours if all samples have the same number
    objective:   masked (predict hidden values) or contrastive (views of a stay are similar)
    rate:        share of measured cells that are hidden
    noise:       jitter of the values of a view, in standard deviations
    temperature: of the contrastive loss
    patience:    number of epochs without a lower loss on held-out subjects that ends the fit
    """

    task: str
    model: Component
    objective: Objective = "masked"
    rate: float = Field(default=0.15, gt=0, lt=1)
    noise: float = Field(default=0.1, ge=0)
    temperature: float = Field(default=0.1, gt=0)
    patience: int = Field(default=5, ge=1)
    seed: int = Field(default=0, ge=0)
    training: Training = Training(max_epochs=30, batch_size=64)

    @model_validator(mode="after")
    def _indicators_are_stored(self) -> "Pretraining":
        if self.training.indicators != "stored":
            raise ValueError("a trunk is trained with training.indicators: stored only")
        return self

    def id(self, data: str) -> str:
        """Return the identity of the fit on the data with this fingerprint."""
        text = json.dumps({"pretraining": self.model_dump(mode="json"), "data": data})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def origin(self) -> str:
        """Return in words what it trains on and how."""
        return f"{self.objective} pretraining on all training stays"


def compose(
    task: str, model: str, *, changes: Mapping[str, Any] | None = None, **given: Any
) -> Pretraining:
    """Return the settings, as the command line names them.

    task, model: a YAML file or a name
    changes:     settings that replace all others, as {"model.units": 128, "rate": 0.3}
    given:       what `Pretraining` has besides; its training joins the task's normaliser

    Raises:
        InputError: an unknown name or setting, a value out of range.
    """
    found, own = read_task(task), dict(given.pop("training", {}))
    component = _completed(read_model(model))
    if is_plugin(models.__name__, component.name):
        raise InputError(
            f"Only the models of mimic-reg can be pretrained, not {component.name}. "
            f"{suggest(component.name, models.names())}"
        )
    kept = {k: v for k, v in found.training.items() if k in ("normalizer", "by_length")}
    defaults = Pretraining.model_fields["training"].default.model_dump()
    training = {**defaults, **kept, **own}
    content = {"task": found.task, "model": component.entry(), "training": training, **given}
    own = {name: Pretraining.model_fields[name].default for name in _OWN}
    content = {**own, **content}
    changes = changes or {}
    check_known(changes, change_plain(content, changes, _OWN))
    content["model"] = _completed(Component.model_validate(content["model"]))
    return checked(Pretraining, content, inner=Training)


_OWN = ("rate", "noise", "temperature", "patience")


def _completed(model: Component) -> Component:
    return model.completed(models.__name__, "Model", skip=models.GIVEN)


def pretrain(
    settings: Pretraining,
    store: Path,
    out: Path,
    *,
    progress: Progress = SILENT,
    device: str | None = None,
    threads: int | None = None,
) -> Literal["finished", "interrupted", "skipped"]:
    """Train a trunk in the folder `out`, or go on where it stopped.

    The first Ctrl-C ends the current step, writes a checkpoint and returns "interrupted".

    Raises:
        InputError: `out` has something else; the store has no stays; the model is for images.
        MimicRegError: the model diverged; another process writes to `out`.
    """
    opened = Store.open(store)
    opened.spec.check_undivided("Self-supervised training")
    data = str(opened.manifest["fingerprint"])
    identity = settings.id(data)
    with locked(out):
        _claim(out, identity, settings, data)
        if is_done(out, identity):
            check_finished(out)
            progress.note(f"{out} holds this trunk, finished; nothing to do.")
            return "skipped"
        with torch_threads(threads or DEFAULT_THREADS):
            trainer = _make_trainer(settings, opened, out, device, progress)
            with stopping(trainer):
                if trainer.run() == "interrupted":
                    return "interrupted"
            trainer.load_best()
        assert trainer.best is not None
        fit = settings.model_dump(mode="json")
        write_trunk(out, trainer.model, settings.model, (), settings.origin, trainer.best, fit)
        finish(out, identity)
        forget_checkpoints(out)
    return "finished"


def _claim(out: Path, identity: str, settings: Pretraining, data: str) -> None:
    """Write the settings of the folder, or refuse a folder with others."""
    path = out / DESCRIPTION
    if path.is_file():
        if read_json(path).get("id") != identity:
            raise InputError(
                f"{out} holds another pretraining, or one on other data. Choose another --out, or "
                "start it with the same settings to go on with it."
            )
        return
    if others := [p.name for p in out.iterdir() if not p.name.startswith(".")]:
        raise InputError(f"{out} is not empty: it holds {min(others)}. Choose another --out.")
    content = {"id": identity, "settings": settings.model_dump(mode="json"), "store": data}
    write_json(path, content)


def _make_trainer(
    settings: Pretraining, store: Store, out: Path, device: str | None, progress: Progress
) -> Trainer:
    where, spec = find_device(device), store.spec
    hourly(settings.model.name, spec.features)
    train, validation = load_unlabelled(
        store,
        spec.task(settings.task),
        normalizer=settings.training.normalizer,
        seed=settings.seed,
        device=where,
    )
    streams = Streams(settings.seed, "pretraining")
    generator = streams.init()
    ((name, options),) = settings.model.entry().items()
    model = models.create(
        name, 1, shape=spec.features, cohort_channels=spec.channels, generator=generator, **options
    )
    pretext = Pretext(
        model,
        find_cells(spec.channels),
        settings.objective,
        rate=settings.rate,
        noise=settings.noise,
        temperature=settings.temperature,
        generator=generator,
    )
    stopper = {"patience": settings.patience, "min_explained": None}
    trainer = Trainer(
        pretext,
        methods.compose([{"early_stopping": stopper}]),
        train,
        validation,
        num_outputs=1,
        selected_by="root_mean_squared_error",
        training=settings.training,
        streams=streams,
        folder=out,
        progress=progress,
    )
    pretext.generator = trainer.fit.generator
    progress.note(
        f"{len(train):,} training stays without labels; {len(validation):,} of other subjects of "
        f"the training split select the epoch. It learns from {IN_WORDS[settings.objective]}."
    )
    return trainer
