"""The cohort: what each step of the extraction kept, and the samples of the tasks."""

from collections.abc import Mapping
from typing import Any

from mimic_reg.report.formats import format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given
from mimic_reg.store import read_json


def cohort_section(given: Given) -> Section | None:
    """Return cohort flow and samples of every store with an audit; None if there is none."""
    tasks = {t.task for t in given.trials}
    audits = [
        (store.spec.name, read_json(store.path("audit.json")))
        for store in given.stores
        if "audit.json" in store.manifest["files"]
    ]
    if not audits:
        return None
    stores = [
        {
            "name": name,
            "flow": [[s["step"], *_counts(s, _FLOW)] for s in audit.get("cohort_flow", [])],
            "samples": [
                [
                    format_task(task),
                    "validation" if split == "val" else split,
                    *_counts(found, _UNITS),
                    _positives(found),
                ]
                for task, splits in audit.get("samples", {}).items()
                if task in tasks
                for split, found in splits.items()
            ],
        }
        for name, audit in audits
    ]
    return section("cohort", "What data is this?", stores=stores)


_FLOW = ("stays", "admissions", "subjects")
_UNITS = ("samples", "stays", "subjects")


def _counts(found: Mapping[str, Any], units: tuple[str, ...]) -> list[str]:
    return [f"{found[unit]:,}" if unit in found else "-" for unit in units]


def _positives(counts: Mapping[str, Any]) -> str:
    positives = counts.get("positives")
    if isinstance(positives, Mapping):
        if len(positives) > 1:
            fewest, most = min(positives.values()), max(positives.values())
            return f"{fewest:,} to {most:,} for each label"
        positives = next(iter(positives.values()), None)
    if positives is None:
        return "-"
    share = f" ({100 * positives / counts['samples']:.1f} %)" if counts["samples"] else ""
    return f"{positives:,}{share}"
