"""What a report rests on: data, versions, options, every trial; and how to get the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mimic_reg.metrics.scores import Score
from mimic_reg.report.formats import format_level, format_score, format_score_name, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.labels import format_option
from mimic_reg.report.results import SIZE_AND_SEED, TrialResult, mixed_threads
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, format_title


def basis_section(given: Given) -> Section:
    """Data, versions and commands; options, trials and settings folded away."""
    return section(
        "rests-on",
        "What does this rest on?",
        warnings=_warnings(given),
        facts=_facts(given),
        commands=given.commands,
        options=_options(given.trials),
        trials=[_trial_grid(given.results.of(t.task, t.model), t) for t in given.tables],
        configuration=_configuration(given),
    )


def _warnings(given: Given) -> list[str]:
    mixed = len({t.versions.get("code") for t in given.trials}) > 1
    text = "The trials were made by different versions of the code; see below."
    return [text] * mixed + mixed_threads(given.results)


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
        where = format_task(trial.task), trial.model
        rows.setdefault((trial.method, *where, "; ".join(options)))
    return list(rows)


def _trial_grid(trials: Sequence[TrialResult], table: ScoreTable) -> dict[str, Any]:
    rows = [
        [
            t.method,
            format_level(t.supervision),
            str(t.seed),
            str(t.best_epoch),
            *(_score_text(t.scores.get(s, {}).get(table.score), table.score) for s in _SPLITS),
            t.name,
        ]
        for t in trials
    ]
    name = format_score_name(table.score)
    header = ["method", "level", "seed", "best epoch", f"validation {name}", f"test {name}", "run"]
    caption = f"{format_title(table)}: every trial, with 95 % bootstrap intervals over subjects."
    return {"caption": caption, "header": header, "rows": rows}


_SPLITS = ("validation", "test")


def _score_text(score: Score | None, name: str) -> str:
    if score is None:
        return "-"
    if score.value is None:
        return f"undefined: {score.reason}"
    text = format_score(score.value, name)
    if score.low is None or score.high is None:
        return text
    return f"{text} [{format_score(score.low, name)}, {format_score(score.high, name)}]"


def _configuration(given: Given) -> str:
    """What was asked for; or one trial of each method and model, but for level and seed."""
    if isinstance(given.configuration, str):
        return given.configuration
    if given.configuration is not None:
        return _yaml(given.configuration)
    examples: dict[str, None] = {}
    for trial in given.trials:
        settings = {k: v for k, v in trial.settings.items() if k not in SIZE_AND_SEED}
        examples.setdefault(_yaml(settings))
    return "---\n".join(examples)


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
