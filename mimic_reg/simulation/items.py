"""The items simulated stays are charted under: ids, units and spellings of the two systems.

Facts of MIMIC-III's dictionary; of the thousands of items, those that stand for the 17 variables,
and a few of the others. In this file, a *kind* is what is charted ("systolic arterial"); its first
word tells the variable.
"""

from dataclasses import dataclass

import polars as pl

from mimic_reg.schema import resource


@dataclass(frozen=True)
class Item:
    """How a system charts a thing.

    decimals: of the number
    single:   whether the system spells single-precision numbers: 36.900001525878906
    """

    itemid: int
    unit: str | None = None
    decimals: int = 0
    single: bool = False


# CareVue's item, MetaVision's item; None where a system has none.
ITEMS: dict[str, tuple[Item | None, Item | None]] = {
    "heart_rate": (Item(211, "BPM"), Item(220045, "bpm")),
    "respiratory_rate": (Item(618, "BPM"), Item(220210, "insp/min")),
    "respiratory_rate total": (Item(615, "BPM"), Item(224690, "insp/min")),
    "respiratory_rate spontaneous": (Item(614, "BPM"), Item(224689, "insp/min")),
    "saturation": (Item(646, "%"), Item(220277, "%")),
    "saturation arterial": (Item(834, "%"), Item(220227, "%")),
    "systolic": (Item(455, "mmHg"), Item(220179, "mmHg")),
    "systolic arterial": (Item(51, "mmHg"), Item(220050, "mmHg")),
    "systolic manual": (Item(442, "mmHg"), Item(224167, "mmHg")),
    "diastolic": (Item(8441, "mmHg"), Item(220180, "mmHg")),
    "diastolic arterial": (Item(8368, "mmHg"), Item(220051, "mmHg")),
    "diastolic manual": (Item(8440, "mmHg"), Item(224643, "mmHg")),
    "mean_pressure": (Item(456, "mmHg", 4, single=True), Item(220181, "mmHg")),
    "mean_pressure arterial": (Item(52, "mmHg"), Item(220052, "mmHg")),
    "temperature F": (Item(678, "Deg. F", 1, single=True), Item(223761, "?F", 1)),
    "temperature F computed": (Item(679, "Deg. F", 2, single=True), None),
    "temperature C": (Item(676, "Deg. C", 1, single=True), Item(223762, "?C", 1)),
    "temperature C computed": (Item(677, "Deg. C", 4, single=True), None),
    "glucose finger": (Item(807), Item(225664)),
    "glucose serum": (Item(811), Item(220621, "mg/dL")),
    "glucose serum again": (Item(1529), None),
    "glucose blood gas": (None, Item(226537, "mg/dL")),
    "ph arterial": (Item(780, None, 2, single=True), Item(223830, "units", 2)),
    "ph arterial again": (Item(1126, None, 2, single=True), None),
    "ph venous": (Item(860, "pH", 2, single=True), Item(220274, "units", 2)),
    "oxygen": (Item(3420, "%"), Item(223835)),
    "oxygen fraction": (Item(189, "torr", 2), Item(223835, None, 2)),
    "oxygen vision": (Item(727, "decFrc"), None),
    "weight daily": (Item(763, "kg", 1, single=True), Item(224639, "kg", 1)),
    "weight daily lb": (Item(763, "lb", 1, single=True), None),
    "weight kg": (Item(3580, None, 1, single=True), Item(226512, "kg", 1)),
    "weight lb": (Item(3581, None, 1), Item(226531, None, 1)),
    "weight oz": (Item(3582), None),
    "height inch": (Item(1394), Item(226707, "Inch")),
    "height cm": (None, Item(226730, "cm")),
    "output": (Item(40055, "ml"), Item(226559, "mL")),
}
LABS = {
    "glucose": Item(50931, "mg/dL"),
    "glucose blood gas": Item(50809, "mg/dL"),
    "ph": Item(50820, "units", 2),
    "saturation": Item(50817, "%"),
    "ph urine": Item(51491, "units", 1),
}
URINE_GLUCOSE = Item(51478, "mg/dL")
URINE_GLUCOSE_TEXTS = ("NEG", "100", "250", "TR", ">1000")  # in this order, with more glucose
# Laboratories outside the benchmark: the item, mean and spread of the values.
OTHER_LABS = (
    (Item(50971, "mEq/L", 1), 4.1, 0.5),
    (Item(50983, "mEq/L"), 139.0, 4.0),
    (Item(50912, "mg/dL", 1), 1.3, 0.4),
    (Item(51006, "mg/dL"), 26.0, 7.0),
    (Item(50882, "mEq/L"), 25.0, 4.0),
    (Item(51222, "g/dL", 1), 10.5, 1.6),
    (Item(51301, "K/uL", 1), 11.0, 3.0),
    (Item(51265, "K/uL"), 220.0, 55.0),
)


@dataclass(frozen=True)
class OtherChart:
    """A thing that the benchmark does not use: most rows of the real table are such.

    share: of the hours at which it is charted
    """

    itemids: tuple[int, int]
    labels: tuple[str, str]
    share: float
    texts: tuple[str, ...]
    unit: str | None = None


OTHER_CHARTS = (
    OtherChart(
        *((212, 220048), ("Heart Rhythm", "Heart Rhythm"), 0.9),
        ("Normal Sinus", "Atrial Fib", "Sinus Tachy", "Sinus Brady", "Paced"),
    ),
    OtherChart((161, 224650), ("Ectopy Type", "Ectopy Type 1"), 0.6, ("None", "PVC's", "PAC's")),
    OtherChart(
        *((128, 223758), ("Code Status", "Code Status"), 0.2),
        ("Full Code", "Do Not Resuscita", "Comfort Measures"),
    ),
    OtherChart(
        *((8549, 220046), ("HR Alarm [High]", "Heart rate Alarm - High"), 0.3, ("120", "130")),
        "BPM",
    ),
    OtherChart(
        *((5815, 220047), ("HR Alarm [Low]", "Heart Rate Alarm - Low"), 0.3, ("50", "60")), "BPM"
    ),
    OtherChart((506, 220339), ("PEEP Set", "PEEP set"), 0.25, ("5", "8", "10"), "cmH2O"),
    OtherChart(
        *((550, 227969), ("Precautions", "Safety Measures_U_1"), 0.3),
        ("Universal", "Adequate lighting, bed low", 'Sign "fall risk" at bed'),
    ),
)


@dataclass(frozen=True)
class ComaScale:
    """A component of the coma scale: from these levels of consciousness up, these texts."""

    levels: tuple[float, ...]
    carevue: tuple[int, tuple[str, ...]]
    metavision: tuple[int, tuple[str, ...]]


COMA_SCALE = {
    "eye": ComaScale(
        (0.9, 0.2, -0.4),
        (184, ("4 Spontaneously", "3 To speech", "2 To pain", "1 No Response")),
        (220739, ("Spontaneously", "To Speech", "To Pain", "None")),
    ),
    "motor": ComaScale(
        (0.3, -0.3, -0.7, -0.9, -1.1),
        (
            454,
            (
                *("6 Obeys Commands", "5 Localizes Pain", "4 Flex-withdraws"),
                *("3 Abnorm flexion", "2 Abnorm extensn", "1 No Response"),
            ),
        ),
        (
            223901,
            (
                *("Obeys Commands", "Localizes Pain", "Flex-withdraws"),
                *("Abnormal Flexion", "Abnormal extension", "No response"),
            ),
        ),
    ),
    "verbal": ComaScale(
        (1.2, 0.5, 0.3, 0.0),
        (
            723,
            (
                *("5 Oriented", "4 Confused", "3 Inapprop words", "2 Incomp sounds"),
                *("1 No Response", "1.0 ET/Trach"),
            ),
        ),
        (
            223900,
            (
                *("Oriented", "Confused", "Inappropriate Words", "Incomprehensible sounds"),
                *("No Response", "No Response-ETT"),
            ),
        ),
    ),
}
COMA_TOTAL = 198  # CareVue only
CAPILLARY_REFILL = ("Normal <3 secs", "Brisk", "Abnormal >3 secs", "Delayed", "Other/Remarks")


def d_items() -> pl.DataFrame:
    """D_ITEMS: every item of CHARTEVENTS and OUTPUTEVENTS that may occur."""
    known = pl.read_csv(resource("items.csv").read_bytes()).filter(table="chartevents")
    labels = dict(known.select("itemid", "label").iter_rows())
    for other in OTHER_CHARTS:
        labels |= dict(zip(other.itemids, other.labels, strict=True))
    outputs = {i.itemid: "Urine Out Foley" for i in ITEMS["output"] if i}
    ids = sorted([*labels, *outputs])
    metavision = pl.col("ITEMID") >= 220_000
    empty = pl.lit(None, pl.String)
    table = pl.DataFrame({"ITEMID": ids, "LABEL": [(labels | outputs)[i] for i in ids]})
    return table.with_row_index("ROW_ID", offset=1).select(
        "ROW_ID",
        "ITEMID",
        "LABEL",
        pl.when(metavision).then("LABEL").alias("ABBREVIATION"),
        pl.when(metavision)
        .then(pl.lit("metavision"))
        .otherwise(pl.lit("carevue"))
        .alias("DBSOURCE"),
        pl.when(pl.col("ITEMID").is_in(list(outputs)))
        .then(pl.lit("outputevents"))
        .otherwise(pl.lit("chartevents"))
        .alias("LINKSTO"),
        *(empty.alias(c) for c in ("CATEGORY", "UNITNAME", "PARAM_TYPE", "CONCEPTID")),
    )
