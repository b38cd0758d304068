"""Whether a fitted normaliser is that of the training hours, and of nothing else."""

import numpy as np
import polars as pl

from mimic_reg.checks.base import Outcome, View, chosen_channels, counted, some
from mimic_reg.clinical.normalizers import is_constant
from mimic_reg.samples.stays import training_moments
from mimic_reg.sources.frames import KIND

_CHECK = "normaliser fitted to training hours"
_CLOSE = 1e-6  # of the deviation; other hours change a mean by more than rounding does

Moments = tuple[float, float]


def fitted(view: View) -> Outcome:
    """Return whether the stored means and deviations are those of the training hours."""
    spec, task = view.spec, view.task
    if "fitted" not in spec.normalizers:
        text = f"The cohort has no fitted normaliser, but: {', '.join(spec.normalizers)}."
        return Outcome(_CHECK, "not checked", text)
    stored = training_moments(view.store, task)
    both = zip(stored["means"], stored["stds"], strict=True)
    moments = dict(zip(spec.channel_names, both, strict=True))
    names = [c.name for c in spec.channels if c.kind == "continuous"]
    columns, left_out = chosen_channels(view, names)
    hours = _Hours(view)
    fits = {name: hours.fits(name, moments[name]) for name in columns}
    elsewhere = {name: where for name, where in fits.items() if where not in ("train", None)}
    unknown = [name for name, where in fits.items() if where is None]
    may_be_other = view.store.manifest.get("source", {}).get("kind") == KIND and not spec.imputed
    if elsewhere or (unknown and not may_be_other):
        others = "other hours than those of the training samples"
        where, wrong = sorted(set(elsewhere.values())) or [others], [*elsewhere, *unknown]
        text = (
            f"The means or deviations of {counted(len(wrong), 'channels')} are those of "
            f"{', '.join(where)}: {some(wrong)}.{left_out}"
        )
        again = "import or extract the store again."
        advice = f"Fit the normaliser to the training hours alone: {again}"
        return Outcome(_CHECK, "found", text, len(wrong), advice)
    if unknown:
        text = (
            f"The means of {counted(len(unknown), 'channels')} are not those of the hourly table; "
            "what was measured is not in the store, so they cannot be computed again."
        )
        return Outcome(_CHECK, "not checked", text)
    text = (
        f"Means and deviations of {counted(len(columns), 'channels')} are those of the "
        f"{hours.num_train:,} training hours.{left_out}"
    )
    return Outcome(_CHECK, "passed", text)


class _Hours:
    """Which hours are seen by the samples of each split."""

    def __init__(self, view: View) -> None:
        self.view, spec = view, view.spec
        self.time = str(spec.time)
        hours = view.store.scan("hourly.parquet").select(spec.unit, self.time).collect()
        self.hour = hours[self.time]
        self.masks: dict[str, pl.Series] = {}
        sets = {
            "train": ["train"],
            "training and validation": ["train", "val"],
            "training and test": ["train", "test"],
            "all splits": ["train", "val", "test"],
            "validation": ["val"],
            "test": ["test"],
        }
        for name, splits in sets.items():
            seen = (
                view.table.filter(pl.col("split").cast(pl.String).is_in(splits))
                .group_by(pl.col("unit").alias(spec.unit))
                .agg(pl.col("seen").max())
            )
            joined = hours.join(seen, on=spec.unit, how="left", maintain_order="left")
            self.masks[name] = (joined[self.time] < joined["seen"]).fill_null(False)
            if name in ("train", "all splits"):
                whole = {"train": "whole training stays", "all splits": "all whole stays"}[name]
                self.masks[whole] = joined["seen"].is_not_null()
        self.masks["all hours of the store"] = pl.repeat(True, hours.height, eager=True)
        self.num_train = int(self.masks["train"].sum())

    def fits(self, name: str, stored: Moments) -> str | None:
        """Return whose hours have these moments: "train", others, or None: no hours that are known.

        The hours may be those with a measurement, all, or the first one (static channels).
        """
        values, measured = self._read(name), self._measured(name)
        ways = [pl.repeat(True, len(values), eager=True), self.hour == 0]
        ways += [] if measured is None else [measured]
        for where, mask in self.masks.items():
            if any(_same(values.filter(mask & way), stored) for way in ways):
                return where
        return None

    def _read(self, name: str) -> pl.Series:
        path = self.view.store.path("hourly.parquet")
        return pl.read_parquet(path, columns=[name], glob=False)[name].cast(pl.Float64)

    def _measured(self, name: str) -> pl.Series | None:
        """Return in which hours a channel was measured; None if no channel tells."""
        channels = self.view.spec.channels
        variable = next(c.variable for c in channels if c.name == name)
        for channel in channels:
            if channel.variable == variable and channel.kind in ("observed", "missing"):
                return self._read(channel.name) == float(channel.kind == "observed")
        return None


def _same(column: pl.Series, stored: Moments) -> bool:
    mean, std = (0.0 if v is None else float(v) for v in (column.mean(), column.std()))  # type: ignore[arg-type]
    if is_constant(np.array([mean]), np.array([std]))[0]:
        std = 1.0
    size = _CLOSE * max(std, abs(mean) * 1e-3)
    return abs(mean - stored[0]) <= size and abs(std - stored[1]) <= size
