"""The registry's trunks: the part that tasks share that were trained together, for fine-tuning.

There is a registered model for each set of tasks and family. Its files are `trunk.safetensors` and
`trunk.yaml`, which `mimic-reg finetune` takes.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mimic_reg.errors import InputError
from mimic_reg.learners.trunk import Trunk, load_trunk
from mimic_reg.runs import DONE, FIT, TRUNK, TRUNK_SETTINGS, read_trial
from mimic_reg_pipelines.tracking import registry
from mimic_reg_pipelines.tracking.cards import CHAMPION
from mimic_reg_pipelines.tracking.champions import MEAN
from mimic_reg_pipelines.tracking.mlflow_runs import log_trial
from mimic_reg_pipelines.tracking.tracked_run import read_tracked

_OF_THE_FIT = ("method", "supervision", "num_samples", "seed", "code_version", "data_fingerprint")


def _trunk_name(trunk: Trunk, folder: Path) -> str:
    cohort = read_trial(folder, FIT)["cohort"]["name"]
    return registry.model_name("-".join(["trunk", *trunk.tasks]), trunk.model.name, cohort)


def register_best_trunks(
    folders: Iterable[Path],
    *,
    uri: str,
    sweep: str | None = None,
    methods: Mapping[Path, str] | None = None,
) -> list[registry.Registered]:
    """Register the trunk with the best mean validation score of every set of tasks and family.

    folders: of fits of several tasks; unfinished ones are left out, and those of a fold: a trunk is
             for fine-tuning, which needs patients that no trunk has seen
    methods: as in `register_best`, by the fits' folders
    """
    best: dict[str, tuple[float, Path]] = {}
    counts: Counter[str] = Counter()
    for folder in folders:
        if not (folder / DONE).is_file():
            continue
        if read_trial(folder, FIT)["trial"]["trials"][0].get("fold") is not None:
            continue
        trunk = load_trunk(folder)
        name, score = _trunk_name(trunk, folder), trunk.score
        assert score is not None, "a fit of several tasks has a mean score"
        counts[name] += 1
        if name not in best or score > best[name][0]:
            best[name] = score, folder
    return [
        register_trunk(
            folder, uri=uri, sweep=sweep, method=(methods or {}).get(folder), among=counts[name]
        )
        for name, (_, folder) in sorted(best.items())
    ]


def register_trunk(
    folder: Path, *, uri: str, sweep: str | None = None, method: str | None = None, among: int = 1
) -> registry.Registered:
    """Register the shared trunk of a finished fit, once, and make it champion if it is the best.

    among: the number of fits whose best mean validation score it has

    Raises:
        InputError: the folder holds no finished fit of several tasks.
    """
    if not (folder / FIT).is_file() or not (folder / DONE).is_file():
        raise InputError(f"{folder} holds no finished fit of several tasks: it has no trunk yet.")
    trunk, described = load_trunk(folder), read_trial(folder, FIT)
    runs = [read_tracked(folder / task, method) for task in trunk.tasks]
    run_ids = [log_trial(run.folder, uri=uri, sweep=sweep, method=method) for run in runs]
    assert trunk.score is not None, "a finished fit has a mean score"
    first, tasks, family = runs[0], ", ".join(trunk.tasks), trunk.model.name
    fit_id = str(described["id"])

    def write(target: Path, model_id: str) -> None:
        target.mkdir()
        for file in (TRUNK, TRUNK_SETTINGS):
            shutil.copy(folder / file, target)

    candidate = registry.Candidate(
        name=_trunk_name(trunk, folder),
        about=(
            f"The trunk that {' + '.join(trunk.tasks)} share, to fine-tune from. The alias "
            f"`{CHAMPION}` is on the version with the best mean of the tasks' validation scores."
        ),
        labels={"tasks": tasks, "model": family},
        trial_id=fit_id,
        run_id=run_ids[0],
        task=first.trial.task,
        kind=f"trunk of {family}",
        called=f"trunk-{registry.plain_name(family)}-{fit_id}",
        tags={
            **{n: t for n, t in registry.version_tags([first]).items() if n in _OF_THE_FIT},
            **{"trial_id": fit_id, "tasks": tasks, "selected_by": MEAN},
            f"validation_{MEAN}": repr(trunk.score),
        },
        description=f"{first.method}, {tasks}, seed {first.trial.seed}.",
        selected=registry.selected(
            f"mean validation score {trunk.score:.4f}", among, "fits", sweep
        ),
        metrics={},
        write=write,
    )
    return registry.enter(candidate, uri)
