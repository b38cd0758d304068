"""The items of simulated events: their ids, units and spellings in CareVue and MetaVision.

All are items of MIMIC-III's dictionary: those of the 17 variables, and a few others. A *kind* is
what is charted ("systolic arterial"), under one item or several. Its first word names the variable.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic_reg.clinical.events import METAVISION
from mimic_reg.clinical.schema import resource as clinical_resource
from mimic_reg.simulation.parameters import resource

_TABLE = pl.read_csv(resource("items.csv").read_bytes())


@dataclass(frozen=True)
class Item:
    """How one item is charted.

    system:   carevue or metavision; None: both
    decimals: of its numbers
    style:    single: as in single precision, 36.900001525878906; fixed: with trailing zeros
    texts:    written instead of numbers, if there are any
    """

    table: str
    system: str | None
    itemid: int
    unit: str | None
    decimals: int
    style: str | None
    texts: tuple[str, ...]

    def spell(self, values: NDArray[Any]) -> pl.Series:
        """Return values as they are charted: numbers, texts, or positions among `texts`."""
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


ITEMS: dict[str, list[Item]] = {}  # kind -> its items
for _row in _TABLE.drop("label").iter_rows(named=True):
    _texts = tuple(_row["texts"].split("|")) if _row["texts"] else ()
    ITEMS.setdefault(_row.pop("kind"), []).append(Item(**_row | {"texts": _texts}))


def d_items() -> pl.DataFrame:
    """Return D_ITEMS: every item that CHARTEVENTS and OUTPUTEVENTS may hold."""
    known = pl.read_csv(clinical_resource("items.csv").read_bytes()).filter(table="chartevents")
    own = _TABLE.drop_nulls("label").with_columns(pl.col("table").str.to_lowercase())
    metavision = pl.col("itemid") >= METAVISION
    return (
        pl.concat([t.select("itemid", "label", "table") for t in (known, own)])
        .sort("itemid")
        .select(
            ITEMID="itemid",
            LABEL="label",
            ABBREVIATION=pl.when(metavision).then("label"),
            DBSOURCE=pl.when(metavision).then(pl.lit("metavision")).otherwise(pl.lit("carevue")),
            LINKSTO="table",
        )
    )
