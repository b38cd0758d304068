"""The cohort: what each step of the extraction left, and the samples of the tasks."""

from collections.abc import Mapping
from typing import Any

from mimic_reg.report.formats import format_task
from mimic_reg.report.markup import Html, grid, section, tag
from mimic_reg.report.sections.given import Given
from mimic_reg.storage import read_json


def cohort_section(given: Given) -> Html:
    """Cohort flow and samples of every store that is at hand."""
    parts: list[str] = []
    for store in given.stores:
        if "audit.json" not in store.manifest["files"]:
            continue
        audit = read_json(store.path("audit.json"))
        if "cohort_flow" in audit:
            units = ("stays", "admissions", "subjects")
            flow = [[s["step"], *(f"{s[u]:,}" for u in units)] for s in audit["cohort_flow"]]
            parts.append(
                grid("Cohort flow: what is left after each step.", ["after", *units], flow)
            )
        tasks = {t.task for t in given.trials}
        rows = _sample_rows({n: s for n, s in audit.get("samples", {}).items() if n in tasks})
        header = ["task", "split", "samples", "stays", "subjects", "positives"]
        parts.append(grid("Samples of the tasks.", header, rows, left=(1,)))
    if not parts:
        parts = [tag("p", "The store is not at hand, so its cohort flow is not shown.")]
    return section("cohort", "Cohort", *parts)


def _sample_rows(samples: Mapping[str, Any]) -> list[list[str]]:
    names = {"val": "validation"}
    return [
        [
            format_task(task),
            names.get(split, split),
            *(f"{counts[unit]:,}" if unit in counts else "-" for unit in _UNITS),
            _positives(counts),
        ]
        for task, splits in samples.items()
        for split, counts in splits.items()
    ]


_UNITS = ("samples", "stays", "subjects")


def _positives(counts: Mapping[str, Any]) -> str:
    positives = counts.get("positives")
    if isinstance(positives, Mapping):
        if len(positives) > 1:
            fewest, most = min(positives.values()), max(positives.values())
            return f"{fewest:,} to {most:,} a label"
        positives = next(iter(positives.values()), None)
    if positives is None:
        return "-"
    share = f" ({100 * positives / counts['samples']:.1f} %)" if counts["samples"] else ""
    return f"{positives:,}{share}"
