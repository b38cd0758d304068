"""The codes of a store's channels: what was measured, and when, as far as the store knows."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mimic_reg.cohorts.meds import layout
from mimic_reg.errors import InputError
from mimic_reg.store import Store
from mimic_reg.store.spec import Channel

UNKNOWN = "(unknown)"  # the text of a measured category that has no channel


@dataclass(frozen=True)
class Code:
    """A variable of the store as a MEDS code.

    channels: its value; several are the categories of a text
    texts:    those categories; empty for a number
    mark:     the channel that says whether an hour has a measurement, and its value then; None:
              the store does not know
    static:   whether the value never changes within a stay, and has no mark
    normal:   what the store holds before a first measurement, if it is one value
    """

    name: str
    channels: tuple[str, ...]
    texts: tuple[str, ...]
    continuous: bool
    mark: tuple[str, float] | None
    static: bool = False
    normal: float | str | None = None

    @property
    def value(self) -> pl.Expr:
        """Return the number or text of each hour."""
        if not self.texts:
            return pl.col(self.name)
        pairs = zip(self.channels, self.texts, strict=True)
        found = [pl.when(pl.col(channel) == 1).then(pl.lit(text)) for channel, text in pairs]
        return pl.coalesce(*found, pl.lit(UNKNOWN))

    def changed(self, unit: str) -> pl.Expr:
        """Return whether an hour holds another value than the hour before, which may be none."""
        return pl.any_horizontal(
            pl.col(channel).ne_missing(pl.col(channel).shift().over(unit))
            for channel in self.channels
        )

    def measured(self, unit: str) -> pl.Expr:
        """Return whether an hour has a row: a measurement or, without a mark, another value."""
        here = pl.col(self.mark[0]) == self.mark[1] if self.mark else self.changed(unit)
        if self.texts and not self.mark:
            here &= pl.sum_horizontal(self.channels) > 0
        return here & pl.all_horizontal(pl.col(c).is_not_null() for c in self.channels)

    @property
    def description(self) -> str:
        """Return what a row of this code says."""
        if self.static:
            return f"{self.name}: the same in all hours of the stay; its time is the stay's start."
        what = "category" if self.texts else "value"
        if self.mark:
            return f"{self.name}: the {what} measured within the hour that ends at 'time'."
        return (
            f"{self.name}: the {what} of the hour that ends at 'time', where it differs from the "
            "hour before. The store does not know when it was measured."
        )


def read_codes(store: Store) -> tuple[list[Code], list[str]]:
    """Return the codes of a store, and sentences on what they cannot say.

    Raises:
        InputError: two variables would have the same code.
    """
    spec = store.spec
    hourly = store.scan("hourly.parquet")
    variables = dict.fromkeys(channel.variable for channel in spec.channels)
    codes = [code for variable in variables for code in _of(variable, spec.channels)]
    names = [*layout.OWN, *(code.name for code in codes)]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"The store has two variables {repeated[0]!r}, or MEDS has this code itself. Give them "
            "other names."
        )
    unmarked = [c for code in codes if not code.mark for c in code.channels]
    constant = set()
    if unmarked:
        most = hourly.group_by(spec.unit).agg(pl.col(unmarked).n_unique())
        counts = most.select(pl.col(unmarked).max()).collect().row(0, named=True)
        constant = {channel for channel, count in counts.items() if count == 1}
    first = hourly.filter(pl.col(str(spec.time)) == 0).collect()
    found, notes = [], []
    for code in codes:
        normal, several = _normal(code, first)
        if several:
            notes.append(
                f"{code.name}: the store holds different values before a first measurement; they "
                "are left out."
            )
        static = not code.mark and set(code.channels) <= constant
        found.append(Code(**{**vars(code), "static": static, "normal": normal}))
    return found, notes


def _of(variable: str, channels: Sequence[Channel]) -> list[Code]:
    """The codes of a variable: one, or one per channel that is neither a mark nor a category."""
    own = [channel for channel in channels if channel.variable == variable]
    marks = (c for c in own if c.kind in ("observed", "missing"))
    mark = next(((c.name, float(c.kind == "observed")) for c in marks), None)
    prefix = f"{variable}->"
    categories = [c.name for c in own if c.kind == "indicator" and c.name.startswith(prefix)]
    codes = [
        Code(c.name, (c.name,), (), c.kind == "continuous", mark)
        for c in own
        if c.kind in ("continuous", "indicator") and c.name not in categories
    ]
    if categories:
        texts = tuple(name.removeprefix(prefix) for name in categories)
        codes.append(Code(variable, tuple(categories), texts, continuous=False, mark=mark))
    return codes


def _normal(code: Code, first: pl.DataFrame) -> tuple[float | str | None, bool]:
    """The value before a first measurement, if it is one; and whether there are several.

    first: the first hours of all stays
    """
    if code.mark is None:
        return None, False
    held = first.filter(pl.col(code.mark[0]) != code.mark[1]).select(code.value.alias("held"))
    values = held["held"].unique().drop_nulls()
    if len(values) > 1:
        return None, True
    value = values[0] if len(values) else None
    # without a normal value, 0/1 channels begin with 0
    nothing = value == UNKNOWN or (value == 0 and not code.continuous)
    return (None if nothing else value), False
