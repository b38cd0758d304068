"""The same data under two names: sequences or images that are in two parts of the division."""

import itertools
from collections.abc import Iterator

import numpy as np
import polars as pl
import xxhash

from mimic_reg.checks.base import Outcome, View, chosen_channels, counted, outcome
from mimic_reg.checks.division import named
from mimic_reg.metrics.small_counts import about
from mimic_reg.samples.images import read_pixels
from mimic_reg.store import Store
from mimic_reg.store.spec import Task

PREFIX = 24  # hours; a copy that was cut later is found by its first hours
_ROWS = 1 << 18  # rows hashed together
_VARIED = 3  # different hours of a sequence; with fewer, two patients may be equal by chance
_NEAR = 0.05  # mean distance of values of a copy with noise, in deviations
_MOST_ALIKE, _MOST_GROUPS = 20, 1_000  # stays with the same pattern of measurements
_CHECK = "no copies in another part"
_ADVICE = (
    "Find out why the same data have two keys (a table loaded twice, a stay under two ids, "
    "overlapping exports), keep one of each, and make the store again."
)


def sequences(view: View) -> Outcome:
    """Return whether a stay has the same hours as a stay in another part."""
    names = [c.name for c in view.spec.channels if c.kind == "continuous"]
    columns, left_out = chosen_channels(view, names or list(view.spec.channel_names))
    hashes = _all_hashed(view, columns)
    units = view.units.join(hashes, on="unit")
    varied = units.filter(pl.col("varied") >= _VARIED)
    if varied.is_empty():
        text = f"No stay has {_VARIED} different hours, so copies cannot be told from chance."
        return Outcome(_CHECK, "not checked", text)
    copies: dict[int, list[str | int]] = {}
    for key, rows in {"whole": varied, "prefix": varied.filter(pl.col("seen") > PREFIX)}.items():
        groups = rows.group_by(key).agg("unit", pl.col("part").unique().sort().alias("parts"))
        for group in groups.filter(pl.col("parts").list.len() > 1).iter_rows(named=True):
            copies |= dict.fromkeys(group["unit"], group["parts"])
    copies |= _near(view, columns)
    skipped = units.height - varied.height
    left_out += f" Left out {about(skipped)} stays with too few different hours." * bool(skipped)
    passed = f"No two of {about(varied.height)} stays in different parts have the same hours."
    text = f"{counted(len(copies), 'stays')} have the hours, or almost, of a stay in another part: "
    text += f"{named(copies.values())}.{left_out}"
    return outcome(_CHECK, len(copies), passed + left_out, text, _ADVICE)


def _near(view: View, columns: list[str]) -> dict[int, list[str | int]]:
    """Return stays → parts, of stays measured in the same hours with almost equal values.

    So a copy with noise is found, if channels tell when something was measured.
    """
    marks = [c.name for c in view.spec.channels if c.kind in ("observed", "missing")]
    if not marks:
        return {}
    units = view.units.join(_all_hashed(view, marks), on="unit")
    groups = units.filter(pl.col("varied") >= _VARIED).group_by("whole").agg("unit", "part")
    several = (pl.col("part").list.n_unique() > 1) & (pl.col("unit").list.len() <= _MOST_ALIKE)
    groups = groups.filter(several).sort("whole").head(_MOST_GROUPS)
    unit, hour = view.spec.unit, str(view.spec.time)
    wanted = units.filter(pl.col("unit").is_in(groups["unit"].explode().implode()))
    seen = wanted.select(pl.col("unit").alias(unit), "seen").lazy()
    rows = view.store.scan("hourly.parquet").select(unit, hour, *columns).join(seen, on=unit)
    hours = rows.filter(pl.col(hour) < pl.col("seen")).sort(unit, hour).collect()
    if hours.is_empty():
        return {}
    scale = hours.select(pl.col(columns).cast(pl.Float64).std().fill_null(0)).to_numpy()[0]
    moving = scale > 0
    values = {key: f.select(columns).to_numpy() for (key,), f in hours.group_by(unit)}
    found: dict[int, list[str | int]] = {}
    for keys, parts in groups.select("unit", "part").iter_rows():
        for (a, part), (b, other) in itertools.combinations(zip(keys, parts, strict=True), 2):
            away = np.abs(values[a] - values[b])[:, moving] / scale[moving]
            if part != other and away.size and np.nanmean(away) <= _NEAR:
                found |= dict.fromkeys((a, b), sorted((part, other)))
    return found


def _all_hashed(view: View, columns: list[str]) -> pl.DataFrame:
    """Return unit, its hashes, and how many different hours it has, up to some."""
    return pl.concat(_hashed(view, columns)).group_by("unit").agg(
        pl.col("whole", "prefix").sum(), pl.col("rows").list.explode().n_unique().alias("varied")
    )  # fmt: skip


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
        keys = frame.select(unit=unit, hour=hour).with_columns(row=row, keyed=keyed)
        yield keys.group_by("unit").agg(
            pl.col("keyed").sum().alias("whole"),
            pl.col("keyed").filter(pl.col("hour") < PREFIX).sum().alias("prefix"),
            pl.col("row").unique().head(_VARIED).alias("rows"),
        )


def images(store: Store, task: Task) -> Outcome:
    """Return whether an image is the same, byte for byte, as one in another split."""
    table = store.read(f"tasks/{task.name}.parquet")
    pixels = read_pixels(store).numpy()
    images = (pixels[i].tobytes() for i in table[store.spec.unit].to_list())
    digests = [xxhash.xxh3_128_hexdigest(image) for image in images]
    groups = table.select("split", digest=pl.Series(digests)).group_by("digest")
    found = groups.agg(pl.len(), pl.col("split").unique().sort().alias("parts"))
    found = found.filter(pl.col("parts").list.len() > 1)
    number = int(found["len"].sum())
    passed = f"No two of {len(digests):,} images in different splits are the same."
    text = f"{counted(found.height, 'images')} are in more than one split ({number:,} copies): "
    text += f"{named(found['parts'].to_list())}."
    advice = "Remove the copies from all splits but one, and import the images again."
    return outcome(_CHECK, found.height, passed, text, advice)
