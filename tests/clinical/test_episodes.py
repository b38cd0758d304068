"""Validation, episodes and hourly arrays, compared with the row-by-row oracle."""

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimic_reg.clinical import events as ev
from mimic_reg.clinical.episodes import build_episodes, number_text
from mimic_reg.clinical.hourly import (
    build_hourly,
    count_unknown_categories,
    known_categories,
    num_hours,
)
from mimic_reg.clinical.schema import CHANNELS, EPISODES, TEXT_VARIABLES, VARIABLES
from mimic_reg.clinical.stays import parse_time
from tests import reference_extraction as oracle
from tests.raw import at

# Subject 7: two stays, the second begins while the first lasts. Subject 8: one stay.
STAYS = [
    {"subject_id": 7, "hadm_id": 107, "icustay_id": 207, "start": 0, "hours": 30.0},
    {"subject_id": 7, "hadm_id": 117, "icustay_id": 217, "start": 24, "hours": 6.25},
    {"subject_id": 8, "hadm_id": 108, "icustay_id": 208, "start": 2, "hours": 12.0},
]
for stay in STAYS:
    stay["intime"] = at(stay["start"])
    stay["outtime"] = at(stay["start"] + stay["hours"])

NUMBERS = ["9", "12", "86", "86.0", "59.666698455810547", "0.4", "1", "101.3", "79", "275", "3"]
COMA = ["None", "4 Spontaneously", "To Pain", "1 No Response", "Oriented", "15", "3"]
ITEM_VALUES = st.one_of(
    st.tuples(st.sampled_from([211, 618, 52, 3420, 678, 763, 226531, 3582, 226707, 51]),
              st.sampled_from(NUMBERS)),
    st.tuples(st.sampled_from([646, 807, 51478, 780, 51491]),
              st.sampled_from([*NUMBERS, "NEG", ">500", "-3", "1e3", ""])),
    st.tuples(st.sampled_from([8368, 442]), st.sampled_from(["120/80", "90/3", "77", "NaN"])),
    st.tuples(st.sampled_from([3348]), st.sampled_from(["Brisk", "Delayed", "x"])),
    st.tuples(st.just(184), st.sampled_from(COMA[:3])),
    st.tuples(st.just(723), st.just("Oriented")),
    st.tuples(st.just(198), st.sampled_from(["15", "3"])),
    st.tuples(st.just(999_999), st.sampled_from(NUMBERS)),
)  # fmt: skip


@st.composite
def event_rows(draw):
    rows = []
    for item, value in draw(st.lists(ITEM_VALUES, max_size=40)):
        # Few times, so that ties are common; seconds, so that hours have long fractions.
        hours = draw(st.sampled_from([-5.0, 0.0, 0.5, 1.0, 1.0 + 1 / 3600, 5.25, 24.0, 26.1, 31.0]))
        rows.append(
            {
                "subject_id": draw(st.sampled_from([7, 7, 7, 8, 9])),
                "hadm_id": draw(st.sampled_from([107, 107, 117, 108, 999, None])),
                "icustay_id": draw(st.sampled_from([207, 217, 208, 999, None, None])),
                "itemid": item,
                "charttime": at(hours),
                "value": value or None,
                "valueuom": draw(st.sampled_from([None, "torr", "kg", "lbs", "Inch", "oz"])),
            }
        )
    return rows


SCHEMA = {
    "subject_id": pl.Int64, "hadm_id": pl.Int64, "icustay_id": pl.Int64, "itemid": pl.Int64,
    "charttime": pl.String, "value": pl.String, "valueuom": pl.String,
}  # fmt: skip


def stays_frame():
    frame = pl.DataFrame(STAYS).with_columns(los_hours="hours")
    return frame.with_columns(parse_time(frame[c]) for c in ("intime", "outtime"))


def vectorised(rows):
    frame, stays = pl.DataFrame(rows, SCHEMA), stays_frame()
    fates = ev.count_fates(ev.count_rows(frame), stays) if rows else {}
    measurements, _ = ev.clean(ev.keep_valid(frame, stays), "benchmark")
    episodes, texts = build_episodes(measurements, stays)
    return fates, episodes, texts, build_hourly(episodes, stays)


def cell_texts(episodes, texts):
    """Return each cell as the source spells it: {variable: text} for each row."""
    spelt = {(i, h, v): t for i, h, v, t in texts.iter_rows()}
    plain = episodes.with_columns(
        number_text(pl.col(v)).alias(v) for v in VARIABLES if v not in TEXT_VARIABLES
    )
    return [
        {v: spelt.get((row["icustay_id"], row["hours"], v), row[v]) for v in VARIABLES}
        for row in plain.iter_rows(named=True)
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(event_rows())
def test_equal_to_the_oracle_row_by_row(rows):
    fates, episodes, texts, hourly = vectorised(rows)
    kept, counts = oracle.validate(rows, STAYS)
    assert fates == counts
    expected = oracle.episodes(kept, STAYS)
    assert episodes.schema == EPISODES
    assert episodes["icustay_id"].unique(maintain_order=True).to_list() == sorted(expected)
    spelt = iter(cell_texts(episodes, texts))
    ours = iter(episodes.iter_rows(named=True))
    for icustay in sorted(expected):
        for hours, cells in expected[icustay]:
            row, words = next(ours), next(spelt)
            assert row["hours"] == hours  # to the last bit
            for v in VARIABLES:
                if v.startswith(oracle.UNTOUCHED):
                    assert words[v] == cells.get(v)
                else:
                    assert row[v] == cells.get(v)
    lengths = {s["icustay_id"]: s["hours"] for s in STAYS}
    for (icustay,), array in hourly.partition_by("icustay_id", as_dict=True).items():
        reference = oracle.hourly(expected[icustay], lengths[icustay])
        assert array["hour"].to_list() == list(range(len(reference)))
        for ours_row, row in zip(array.select(CHANNELS).iter_rows(), reference, strict=True):
            assert all(
                abs(a - b) < 1e-6 * max(1.0, abs(b)) for a, b in zip(ours_row, row, strict=True)
            )


@settings(max_examples=40, deadline=None)
@given(event_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    first = vectorised(rows)
    random.shuffle(rows)
    second = vectorised(rows)
    assert first[0] == second[0]
    for a, b in zip(first[1:], second[1:], strict=True):
        assert a.equals(b)


@settings(max_examples=40, deadline=None)
@given(event_rows(), st.integers(1, 29))
def test_a_prefix_of_the_array_is_the_array_of_the_prefix(rows, hours):
    _, episodes, _, whole = vectorised(rows)
    cut = stays_frame().with_columns(
        pl.min_horizontal("los_hours", pl.lit(float(hours))).alias("los_hours")
    )
    short = build_hourly(episodes, cut)
    both = short.join(whole, on=["icustay_id", "hour"], suffix=" whole")
    assert both.height == short.height
    for channel in CHANNELS:
        assert both[channel].equals(both[f"{channel} whole"], check_names=False) or (
            both[channel].to_list() == both[f"{channel} whole"].to_list()
        )


def test_number_of_hours_equals_the_references():
    ends = [0.0, 0.5, 1.0, 4.9999995, 5.0, 39.18, 48.0, 47.9999995]
    ours = pl.DataFrame({"end": ends}).select(num_hours(pl.col("end"))).to_series().to_list()
    assert ours == [int(end + 1.0 - 1e-6) for end in ends]
    assert ours[-1] == 48


def test_a_stay_of_no_length_has_no_hour():
    """It does not take the hours of the previous stay either."""
    rows = [
        {"subject_id": s, "hadm_id": h, "icustay_id": None, "itemid": 211, "value": "80",
         "charttime": at(start), "valueuom": None}
        for s, h, start in ((7, 107, 0), (8, 108, 2))
    ]  # fmt: skip
    measurements, _ = ev.clean(
        ev.keep_valid(pl.DataFrame(rows, SCHEMA), stays_frame()), "benchmark"
    )
    episodes, _ = build_episodes(measurements, stays_frame())
    short = pl.when(icustay_id=208).then(0.0).otherwise("los_hours").alias("los_hours")
    hourly = build_hourly(episodes, stays_frame().with_columns(short))
    assert episodes["icustay_id"].to_list() == [207, 208]
    assert hourly["icustay_id"].unique().to_list() == [207]


def test_a_text_without_a_channel_is_counted_and_left_out():
    stays = stays_frame()
    rows = [
        {"subject_id": 8, "hadm_id": 108, "icustay_id": None, "itemid": i, "value": v,
         "charttime": at(3), "valueuom": None}
        for i, v in ((198, "0"), (211, "ERROR"), (184, "None"))
    ]  # fmt: skip
    _, episodes, texts, hourly = vectorised(rows)
    assert count_unknown_categories(episodes) == {"Glascow coma scale total": 1}
    assert known_categories(episodes)["Glascow coma scale total"].to_list() == [None]
    assert texts.rows() == [(208, 1.0, "Heart Rate", "ERROR")]
    row = hourly.row(0, named=True)
    assert row["mask->Glascow coma scale total"] == 0
    assert row["Glascow coma scale total->15"] == 1
    assert row["mask->Heart Rate"] == 0
    assert row["Glascow coma scale eye opening->None"] == 1
    assert stays.height == 3
