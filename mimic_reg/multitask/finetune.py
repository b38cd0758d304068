"""Transfer learning: does a trained trunk help on a new task with few samples?

For every number of samples and every seed, the task is trained from each trunk and from scratch.
These fits are pairs: they have the same samples, batches and initial head, and differ only in the
weights of the trunk. The whole validation split selects their checkpoints and the whole test split
tests them, so differences come from training. Every fit is an ordinary run folder.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic_reg import fitting
from mimic_reg.errors import InputError, InterruptionError
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.learners.trunk import Trunk, load_trunk
from mimic_reg.multitask.changes import change
from mimic_reg.multitask.fit import Named
from mimic_reg.progress import SILENT, Epoch, Progress
from mimic_reg.settings import Component, Start, Trial
from mimic_reg.store import Store

SCRATCH = "scratch"
EPOCH_STEPS = 20  # a pass over 50 samples is too short to validate after each
MAX_EPOCHS = 30


@dataclass(frozen=True)
class Plan:
    """Settings of a fine-tuning.

    samples: numbers of training samples; seeds: number of seeds, from 0
    method:  as for `mimic-reg train`
    freeze:  epochs in which a trained trunk does not change
    training: settings that replace those of task and method; epochs are short by default
    changes: group.setting → value, which replace any other setting
    """

    task: str
    samples: tuple[int, ...] = (50, 100, 500)
    seeds: int = 5
    method: str = "none"
    freeze: int = 0
    training: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def trials(self, trunks: Sequence[Trunk]) -> list[tuple[Trial, Trunk | None]]:
        """Return all fits, from scratch first, each with its initial trunk.

        Raises:
            InputError: nothing to do; the trunks are of different models; see `compose_trial`.
        """
        if not trunks or not self.samples or self.seeds < 1:
            raise InputError("Fine-tuning needs a trunk, a number of samples and a seed at least.")
        models = [trunk.model for trunk in trunks]
        if any(model != models[0] for model in models):
            raise InputError(
                f"The trunks are of different models ({trunks[0].origin}; {trunks[-1].origin}), so "
                "nothing from scratch compares with all. Fine-tune them one by one."
            )
        _check_apart(trunks)
        return [
            (self._trial(models[0], number, seed, trunk), trunk)
            for number in self.samples
            for seed in range(self.seeds)
            for trunk in (None, *trunks)
        ]

    def _trial(self, model: Component, number: int, seed: int, trunk: Trunk | None) -> Trial:
        training = {"epoch_steps": EPOCH_STEPS, "max_epochs": MAX_EPOCHS, **(self.training or {})}
        composed = compose_trial(self.task, model.name, self.method, seed=seed, training=training)
        start = Start()
        methods = [method.entry() for method in composed.regularisers]
        if trunk is not None:
            start = Start(trunk=trunk.origin, fingerprint=trunk.fingerprint)
            methods = [{"freeze_trunk": {"epochs": self.freeze}}] * (self.freeze > 0) + methods
        content = {**composed.model_dump(), "model": model.entry(), "regularisers": methods}
        trial = resolve({**content, "num_samples": number, "start": start.model_dump()})
        return change(trial, self.changes)


def finetune(
    plan: Plan,
    sources: Sequence[Path],
    store: Path,
    out: Path,
    *,
    progress: Progress = SILENT,
    device: str | None = None,
    threads: int | None = None,
) -> list[Path]:
    """Run unfinished fits and return all run folders in `out`.

    sources: folders of fits, runs or trunks
    threads: of torch, as in `fitting.train`

    Raises:
        InputError: a source has no trunk; see `Plan.trials` and `fitting.train`.
        InterruptionError: Ctrl-C; the same call goes on later.
    """
    trunks = [load_trunk(source) for source in sources]
    trials = plan.trials(trunks)
    task = trials[0][0].task
    for known in trunks:
        if task in known.tasks:
            progress.note(
                f"{task} is among the tasks that this trunk was trained on, with all its samples: "
                f"{known.origin}. What it gains is no transfer."
            )
    opened = Store.open(store)
    opened.spec.check_undivided("Fine-tuning")
    data = str(opened.manifest["fingerprint"])
    progress.stage("fine-tune", len(trials), "fits")
    folders = []
    for trial, trunk in trials:
        folder = out / folder_name(trial, data)
        start = trunk.origin if trunk else SCRATCH
        name = f"{trial.num_samples} samples, seed {trial.seed}, from {start}"
        outcome = fitting.train(
            trial,
            store,
            folder,
            progress=_WithoutEpochs(progress, name),
            device=device,
            threads=threads,
            trunk=trunk,
        )
        if outcome.status == "interrupted":
            raise InterruptionError("Interrupted. Run the same command again to go on.")
        folders.append(folder)
        progress.advance(1)
    return folders


def folder_name(trial: Trial, data: str) -> str:
    """Return the name of a folder: readable, and unique because it ends in the identity."""
    assert trial.start is not None, "fine-tuning says how a trial starts"
    start = re.sub(r"[^a-z0-9_]+", "-", (trial.start.trunk or SCRATCH).lower())[:60]
    return f"{trial.num_samples}-{start}-seed{trial.seed}-{trial.id(data)}"


def _check_apart(trunks: Sequence[Trunk]) -> None:
    seen: dict[str, Trunk] = {}
    for trunk in trunks:
        if trunk.fingerprint in seen:
            raise InputError(f"The same trunk is given twice: {trunk.origin}.")
        seen[trunk.fingerprint] = trunk


class _WithoutEpochs(Named):
    """For many short fits."""

    def epoch(self, epoch: Epoch) -> None:
        """Ignore."""
