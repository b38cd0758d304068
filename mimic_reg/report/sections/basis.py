"""What a report is based on: data, versions, options and trials; and how to reproduce it."""

from collections.abc import Sequence
from typing import Any

import yaml

from mimic_reg.report.formats import format_level, format_score_name, format_scored, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.labels import format_option
from mimic_reg.report.results import SIZE_AND_SEED, TrialResult, mixed_threads
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, format_title


def basis_section(given: Given) -> Section:
    """Return data, versions and commands; options, trials and settings are folded away."""
    mixed = len({t.versions.get("code") for t in given.trials}) > 1
    text = "The trials were made by different versions of the code; see below."
    return section(
        "basis",
        "How can these results be reproduced?",
        warnings=[text] * mixed + mixed_threads(given.results),
        facts=_facts(given),
        commands=given.commands,
        options=_options(given.trials),
        trials=[_trial_grid(given.results.of(t.task, t.model), t) for t in given.tables],
        configuration=_configuration(given),
    )


def _facts(given: Given) -> dict[str, list[str]]:
    facts: dict[str, list[str]] = {}
    for trial in given.trials:
        facts.setdefault("device", []).append(trial.device)
        threads = "not recorded" if trial.threads is None else str(trial.threads)
        facts.setdefault("threads", []).append(threads)
        for name, version in trial.versions.items():
            facts.setdefault(_VERSIONS.get(name, name), []).append(version or "none")
    facts["data fingerprint"] = given.results.fingerprints()
    for store in given.stores:
        source = store.manifest.get("source", {}).get("fingerprint")
        facts.setdefault("source fingerprint", []).extend([source] if source else [])
        for name, what in store.manifest.get("corrections", {}).items():
            facts.setdefault("corrections", []).append(f"{name}: {what}")
    return facts


_VERSIONS = {"code": "code (git)", "mimic_reg": "mimic-reg"}


def _options(trials: Sequence[TrialResult]) -> list[tuple[str, ...]]:
    rows: dict[tuple[str, ...], None] = {}
    for trial in trials:
        entries = list(trial.settings["regularisers"])
        if together := trial.settings.get("together"):
            entries.insert(0, together["strategy"])
        options = [
            f"{name}: " + (", ".join(f"{k} {format_option(v)}" for k, v in given.items()) or "-")
            for entry in entries
            for name, given in entry.items()
        ]
        rows[trial.method, format_task(trial.task), trial.model, "; ".join(options)] = None
    return list(rows)


def _trial_grid(trials: Sequence[TrialResult], table: ScoreTable) -> dict[str, Any]:
    name = format_score_name(table.score)
    fold = ["fold"] if any(t.fold for t in trials) else []
    header = ["method", "level", "seed", *fold, "best epoch"]
    header += [f"validation {name}", f"test {name}", "run"]
    rows = [
        [
            *(t.method, format_level(t.supervision), str(t.seed)),
            *(str(t.fold) for _ in fold),
            str(t.best_epoch),
            *(format_scored(t.scores.get(s, {}).get(table.score), table.score) for s in _SPLITS),
            t.name,
        ]
        for t in trials
    ]
    caption = f"{format_title(table)}: all trials, with 95 % bootstrap intervals over subjects."
    return {"caption": caption, "header": header, "rows": rows}


_SPLITS = ("validation", "test")


def _configuration(given: Given) -> str:
    """Return the configuration; without one, the settings of each method and model."""
    if isinstance(given.configuration, str):
        return given.configuration
    found = [
        {k: v for k, v in trial.settings.items() if k not in SIZE_AND_SEED}
        for trial in given.trials
    ]
    if given.configuration is not None:
        found = [dict(given.configuration)]
    texts = (yaml.safe_dump(s, sort_keys=False, allow_unicode=True) for s in found)
    return "---\n".join(dict.fromkeys(texts))
