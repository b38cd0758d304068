"""From raw tables of current stays to a model's hours, by the rules that made its training data.

A served model holds a *recipe*: which rules, with which settings. The reader for raw tables and for
events of a request is the code of the extraction or of the import.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mimic_reg.clinical.datasets import dataset_of
from mimic_reg.cohorts import ImportSettings
from mimic_reg.cohorts import current as imported
from mimic_reg.cohorts.importing import KIND as RICU
from mimic_reg.errors import InputError
from mimic_reg.extraction import current as extracted
from mimic_reg.progress import Progress
from mimic_reg.settings.base import Settings, checked
from mimic_reg.sources.current import Current
from mimic_reg.store import Store
from mimic_reg.store.spec import CohortSpec


class Recipe(Settings):
    """How raw tables become the hours of a cohort.

    kind:     extract: MIMIC's tables; ricu: dyn and sta
    dataset:  of the extraction, and its mode
    settings: of the import
    """

    kind: Literal["extract", "ricu"]
    dataset: Literal["mimic-iii", "mimic-iv"] = "mimic-iii"
    mode: Literal["benchmark", "corrected"] = "benchmark"
    settings: ImportSettings = ImportSettings()


def recipe_of(store: Store) -> dict[str, Any] | None:
    """Return the recipe of a store's hours, as JSON; None if they do not come from raw tables."""
    manifest = store.manifest
    source = manifest.get("source", {})
    if "mode" in manifest:
        dataset = dataset_of(manifest).name
        return {"kind": "extract", "dataset": dataset, "mode": manifest["mode"]}
    if source.get("kind") == RICU:
        settings = {name: v for name, v in source["settings"].items() if name != "splits"}
        return {"kind": "ricu", "settings": settings}
    return None


def read_recipe(content: Mapping[str, Any] | None, spec: CohortSpec) -> Recipe:
    """Return a recipe from JSON.

    Raises:
        InputError: there is none, and why.
    """
    if not spec.is_hourly:
        raise InputError(f"The model takes images ({spec.name}), not tables of stays.")
    if content is None:
        raise InputError(
            f"This model knows no way from raw tables to the hours of its cohort {spec.name!r}: "
            "the cohort was written from MEDS or from tables in memory, or the model was exported "
            "by an earlier version of mimic-reg. In the second case name its run folder, or "
            "register it again; in the first write a store of the new stays, and use --store."
        )
    return checked(Recipe, dict(content))


def read_current(
    recipe: Recipe,
    spec: CohortSpec,
    source: Path,
    *,
    now: datetime | None,
    allow_missing: bool,
    progress: Progress,
) -> Current:
    """Return the hours of the current stays in a folder of raw tables.

    spec:          of the model's cohort
    now:           see `extraction.current.read_current`
    allow_missing: treat channels that the source lacks as not measured

    Raises:
        InputError: the source cannot be read, or lacks a channel.
    """
    if recipe.kind == "ricu":
        if now is not None:
            raise InputError(
                "--now: times in dyn count from admission, so there is no time of the day. A stay "
                "lasts to its last row; leave --now out."
            )
        return imported.read_current(
            source, recipe.settings, spec.channels, allow_missing=allow_missing
        )
    read = extracted.read_current(source, recipe.mode, recipe.dataset, now=now, progress=progress)
    return keyed(read, spec)


def keyed(current: Current, spec: CohortSpec) -> Current:
    """Return extracted stays with the key of the model's cohort."""
    if (missing := set(spec.channel_names) - set(current.hourly.columns)) or spec.time != "hour":
        raise InputError(
            f"The cohort {spec.name!r} has channels that the extraction does not make: "
            f"{', '.join(sorted(missing))}. Is it a cohort of this version of mimic-reg?"
        )
    named = {extracted.STAY: spec.unit}
    tables = ("hourly", "measured", "observed", "stays")
    return replace(current, **{name: getattr(current, name).rename(named) for name in tables})
