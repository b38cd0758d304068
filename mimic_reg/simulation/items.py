"""The items simulated stays are charted under: ids, units and spellings of the two systems.

Facts of MIMIC-III's dictionary; of its thousands of items, those that stand for the 17 variables,
and a few of the others. A *kind* is what is charted ("systolic arterial"), under one item or
several; its first word tells the variable.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic_reg.clinical.schema import resource as clinical_resource
from mimic_reg.simulation.parameters import resource

_TABLE = pl.read_csv(resource("items.csv").read_bytes())
METAVISION = 220_000  # its items have ids from here on


@dataclass(frozen=True)
class Item:
    """How a thing is charted.

    system:   carevue or metavision; None: in both
    decimals: of the number
    style:    single: numbers as of single precision, 36.900001525878906; fixed: with closing zeros
    texts:    what is written instead of numbers
    """

    table: str
    system: str | None
    itemid: int
    unit: str | None
    decimals: int
    style: str | None
    texts: tuple[str, ...]

    def spell(self, values: NDArray[Any]) -> pl.Series:
        """Numbers, or positions among the texts, as they are written; texts as they are."""
        if values.dtype.kind == "U":
            return pl.Series(values)
        if self.texts:
            return pl.Series(self.texts).gather(values)
        if self.decimals == 0:
            return pl.Series(np.rint(values).astype(np.int64)).cast(pl.String)
        different, which = np.unique(np.round(values, self.decimals), return_inverse=True)
        return pl.Series([self._number(v) for v in different], dtype=pl.String).gather(which)

    def _number(self, value: float) -> str:
        if self.style == "single":
            return f"{float(np.float32(value)):.17g}"
        text = f"{value:.{self.decimals}f}"
        return text if self.style == "fixed" else text.rstrip("0").rstrip(".")


def _items() -> dict[str, list[Item]]:
    items: dict[str, list[Item]] = {}
    for row in _TABLE.drop("label").iter_rows(named=True):
        texts = tuple(row["texts"].split("|")) if row["texts"] else ()
        items.setdefault(row.pop("kind"), []).append(Item(**{**row, "texts": texts}))
    return items


ITEMS = _items()  # the items of each kind


def d_items() -> pl.DataFrame:
    """D_ITEMS: every item of CHARTEVENTS and OUTPUTEVENTS that may occur."""
    known = pl.read_csv(clinical_resource("items.csv").read_bytes()).filter(table="chartevents")
    own = _TABLE.drop_nulls("label").with_columns(pl.col("table").str.to_lowercase())
    metavision = pl.col("itemid") >= METAVISION
    system = pl.when(metavision).then(pl.lit("metavision")).otherwise(pl.lit("carevue"))
    return (
        pl.concat([t.select("itemid", "label", "table") for t in (known, own)])
        .sort("itemid")
        .select(
            ITEMID="itemid",
            LABEL="label",
            ABBREVIATION=pl.when(metavision).then("label"),
            DBSOURCE=system,
            LINKSTO="table",
        )
    )
