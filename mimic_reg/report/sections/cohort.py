"""The cohort: what each step of the extraction left, and the samples of the tasks."""

from collections.abc import Mapping
from typing import Any

from mimic_reg.report.formats import format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given
from mimic_reg.store import read_json


def cohort_section(given: Given) -> Section:
    """Cohort flow and samples of every store that is at hand."""
    tasks = {t.task for t in given.trials}
    stores = []
    for store in given.stores:
        if "audit.json" in store.manifest["files"]:
            audit = read_json(store.path("audit.json"))
            samples = {n: s for n, s in audit.get("samples", {}).items() if n in tasks}
            flow = _flow_rows(audit["cohort_flow"]) if "cohort_flow" in audit else None
            stores.append({"flow": flow, "samples": _sample_rows(samples)})
    return section("cohort", "What data is this?", stores=stores)


def _flow_rows(flow: list[Mapping[str, Any]]) -> list[list[str]]:
    units = ("stays", "admissions", "subjects")
    return [[step["step"], *(f"{step[unit]:,}" for unit in units)] for step in flow]


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
