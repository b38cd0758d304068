"""The command that makes a row, checked: it makes exactly the settings of its runs again."""

import json
import shlex
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.multitask.changes import change
from mimic_reg.report.results import TrialResult
from mimic_reg.settings import BASELINE, Training, Trial
from mimic_reg.settings.files import CONFIGS, name_of_method

CHOSEN = "-chosen"  # ends the name of a comparison's sweep
_FROM_OPTIONS = ("compare-", "tune-")


def train_command(trials: Sequence[TrialResult]) -> str:
    """Return the command of runs that differ in seed and fold only; "" if there is not one.

    Of several seeds it is a loop of a shell. Its run folders have a hash of settings and data in
    their names, so commands of different rows never share one. Fits of several tasks, from a trunk,
    on a number of samples or with plugins have no such command; nor have runs whose folds chose
    different values.
    """
    alike = [{**trial.settings, "seed": 0, "fold": 0} for trial in trials]
    if any(settings != alike[0] for settings in alike):
        return ""
    try:
        first = resolve(trials[0].settings)
        words = _words(first)
    except InputError:  # a module of another version, or a class that is not defined here
        return ""
    if not words:
        return ""
    seeds = sorted({t.seed for t in trials})
    folds = sorted({t.fold for t in trials if t.fold is not None})
    if len(seeds) > 1 and len(trials) != len(seeds) * max(1, len(folds)):  # seeds have other folds
        return "; ".join(train_command([t for t in trials if t.seed == seed]) for seed in seeds)
    digest = sha256(shlex.join([*words, trials[0].fingerprint]).encode()).hexdigest()[:8]
    place = f"runs/{'-'.join(_name(word) for word in words[3:8:2])}-{digest}"
    loops = ""
    for option, values in (("seed", seeds), ("fold", folds)):
        if len(values) > 1:
            loops += f"for {option} in {' '.join(map(str, values))}; do "
        if values:
            value = f"${option}" if len(values) > 1 else str(values[0])
            words += [f"--{option}", value] * ((option, value) != ("seed", "0"))
            place += f"-{value}"
    quoted = " ".join(w if w.startswith("$") else shlex.quote(w) for w in [*words, "--out"])
    return f"{loops}{quoted} {place}{'; done' * loops.count('for ')}"


def sweep_command(sweep: str | None) -> str:
    """Return the command of a sweep: of an experiment by its name, or of a file of the user.

    A search that options described has no file, so no such command: "".
    """
    name = (sweep or "").removesuffix(CHOSEN)
    if not name or name.startswith(_FROM_OPTIONS):
        return ""
    verb = "sweep" if name == sweep else "compare"
    ours = (CONFIGS / "experiments" / f"{name}.yaml").is_file()
    config = name if ours else f"{name}.yaml"
    return f"mimic-reg {verb} --config {shlex.quote(config)} --store STORE --out WORK"


def _name(word: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in word)


def _words(trial: Trial) -> list[str]:
    """Return the words of the command without seed and fold; [] if it does not make the trial."""
    if trial.together or trial.start or trial.num_samples or trial.sources:
        return []
    model = trial.model.name
    method = name_of_method([r.entry() for r in trial.regularisers])
    plain = compose_trial(
        trial.task,
        model,
        method,
        supervision=trial.supervision,
        supervision_unit=trial.supervision_unit,
        seed=trial.seed,
        fold=trial.fold,
    )
    changes = dict(_changes(_acting(plain), _acting(trial)))
    if _acting(change(plain, changes) if changes else plain) != _acting(trial):
        return []
    words = ["mimic-reg", "train", "--task", trial.task, "--model", model, "--method", method]
    if trial.supervision != 1:
        words += ["--supervision", f"{trial.supervision:g}"]
    if trial.supervision_unit != "sample":
        words += ["--supervision-unit", trial.supervision_unit]
    for name, value in changes.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    return [*words, "--store", "STORE"]


def _acting(trial: Trial) -> Trial:
    """Return the trial without `none`, which changes nothing: no methods are the same fit."""
    kept = tuple(r for r in trial.regularisers if r.name != BASELINE)
    return trial.model_copy(update={"regularisers": kept})


def _changes(plain: Trial, wanted: Trial) -> Iterator[tuple[str, Any]]:
    """Yield the settings in which two trials of the same modules differ."""
    for name in Training.model_fields:
        if (value := getattr(wanted.training, name)) != getattr(plain.training, name):
            yield f"training.{name}", value
    pairs = [(plain.model, wanted.model), *zip(plain.regularisers, wanted.regularisers)]  # noqa: B905
    for position, (before, after) in enumerate(pairs):
        group = "model" if position == 0 else after.name
        for option, value in after.options.items():
            if before.options.get(option, ...) != value:
                yield f"{group}.{option}", value
