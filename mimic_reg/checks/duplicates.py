"""The same data under two names: sequences or images that are in two parts of the division."""

from collections.abc import Iterator

import polars as pl
import xxhash

from mimic_reg.checks.base import Outcome, View, chosen_channels, counted
from mimic_reg.checks.division import named
from mimic_reg.samples.images import read_pixels
from mimic_reg.store import Store
from mimic_reg.store.spec import Task

PREFIX = 24  # hours; a copy that was cut later is found by its first hours
_ROWS = 1 << 18  # rows hashed together
_VARIED = 3  # different hours of a sequence; with fewer, two patients may be equal by chance
_CHECK = "no copies in another part"
_ADVICE = (
    "Find out why the same data have two keys (a table loaded twice, a stay under two ids, "
    "overlapping exports), keep one of each, and make the store again."
)


def sequences(view: View) -> Outcome:
    """Return whether a stay has the same hours as a stay in another part."""
    names = [c.name for c in view.spec.channels if c.kind == "continuous"]
    columns, left_out = chosen_channels(view, names or list(view.spec.channel_names))
    hashes = pl.concat(_hashed(view, columns)).group_by("unit").agg(
        pl.col("whole", "prefix").sum(), pl.col("rows").list.explode().n_unique().alias("varied")
    )  # fmt: skip
    units = view.units.join(hashes, on="unit")
    varied = units.filter(pl.col("varied") >= _VARIED)
    if varied.is_empty():
        text = f"No stay has {_VARIED} different hours, so copies cannot be told from chance."
        return Outcome(_CHECK, "not checked", text, task=view.task.name)
    copies: dict[int, list[str | int]] = {}
    for key, rows in {
        "whole": varied,
        "prefix": varied.filter(pl.col("seen") > PREFIX),
    }.items():
        groups = rows.group_by(key).agg("unit", pl.col("part").unique().sort().alias("parts"))
        for group in groups.filter(pl.col("parts").list.len() > 1).iter_rows(named=True):
            copies |= dict.fromkeys(group["unit"], group["parts"])
    skipped = units.height - varied.height
    left_out += f" Left out {counted(skipped, 'stays')} with too few different hours." * bool(
        skipped
    )
    if not copies:
        text = (
            f"No two of {varied.height:,} stays in different parts have the same hours.{left_out}"
        )
        return Outcome(_CHECK, "passed", text, task=view.task.name)
    text = f"{counted(len(copies), 'stays')} have the same hours as a stay in another part: "
    return Outcome(
        *(_CHECK, "found", f"{text}{named(copies.values())}.{left_out}", len(copies)),
        *(_ADVICE, view.task.name),
    )


def _hashed(view: View, columns: list[str]) -> Iterator[pl.DataFrame]:
    """Yield sums of hashes of the hours that samples see, by unit, for parts of the table."""
    unit, hour = view.spec.unit, str(view.spec.time)
    seen = view.units.select(pl.col("unit").alias(unit), "seen")
    scan = view.store.scan("hourly.parquet").select(unit, hour, *columns)
    for start in range(0, view.num_rows, _ROWS):
        frame = scan.slice(start, _ROWS).collect().join(seen, on=unit)
        frame = frame.filter(pl.col(hour) < pl.col("seen"))
        row = frame.select(columns).hash_rows(view.seed)
        keyed = pl.DataFrame({"hour": frame[hour], "row": row}).hash_rows(view.seed) // (1 << 20)
        yield (
            frame.select(pl.col(unit).alias("unit"), pl.col(hour).alias("hour"))
            .with_columns(row=row, keyed=keyed)
            .group_by("unit")
            .agg(
                pl.col("keyed").sum().alias("whole"),
                pl.col("keyed").filter(pl.col("hour") < PREFIX).sum().alias("prefix"),
                pl.col("row").unique().head(_VARIED).alias("rows"),
            )
        )


def images(store: Store, task: Task) -> Outcome:
    """Return whether an image is the same, byte for byte, as one in another split."""
    table = store.read(f"tasks/{task.name}.parquet")
    pixels = read_pixels(store).numpy()
    digests = [
        xxhash.xxh3_128_hexdigest(pixels[i].tobytes()) for i in table[store.spec.unit].to_list()
    ]
    found = (
        table.select("split")
        .with_columns(digest=pl.Series(digests))
        .group_by("digest")
        .agg(pl.len(), pl.col("split").unique().sort().alias("parts"))
        .filter(pl.col("parts").list.len() > 1)
    )
    number = int(found["len"].sum())
    if not number:
        text = f"No two of {len(digests):,} images in different splits are the same."
        return Outcome(_CHECK, "passed", text, task=task.name)
    text = f"{counted(found.height, 'images')} are in more than one split ({number:,} copies): "
    return Outcome(
        *(_CHECK, "found", f"{text}{named(found['parts'].to_list())}.", found.height),
        *("Remove the copies from all splits but one, and import the images again.", task.name),
    )
