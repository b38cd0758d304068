"""The records of the simulated hospital: subjects, admissions, stays and diagnoses.

Times are whole seconds since 1970 until they are written; all stays lie between 2100 and 2200.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.clinical.schema import PHENOTYPES, phenotypes, resource
from mimic_reg.errors import InputError
from mimic_reg.simulation import physiology
from mimic_reg.simulation.parameters import DAY, HOUR, MINUTE, Bools, Floats, Ints, parameters

Streams = Callable[[str], np.random.Generator]  # purpose -> its random generator

_FACTS = parameters("records")
RATES: dict[str, float] = _FACTS["rates"]
NOT_IN_DICTIONARY: list[str] = _FACTS["not_in_dictionary"]
AGE_MEAN, AGE_SPREAD = 64.0, 16.5
MAX_AGE_SHOWN = 89.0  # older patients are born 300 years before their first stay
SPLIT_SHARES = {"test": 0.15, "val": 0.15}
SUBJECT_IDS, HADM_IDS, ICUSTAY_IDS = (2, 100_000), (100_001, 200_000), (200_001, 300_000)
# First admissions lie between these, in seconds.
FIRST_ADMISSION, LAST_FIRST_ADMISSION = np.array(["2100", "2185"], "datetime64[s]").astype(int)
OTHER_CODES_PER_ADMISSION = 4.5
SECOND_CODE = 0.2  # share of a phenotype's patients with two of its codes
FREQUENT_CODES = 0.75  # share of codes drawn from those that are frequent in MIMIC-III
_FREQUENT: list[str] = resource("diagnosis_flags.txt").read_text("utf-8").split()
_YEAR = 365 * DAY


@dataclass(frozen=True)
class Records:
    """The stays that took place, and the tables that list them.

    stays:  N rows, by subject and time:
        subject, admission         0, 1, ...
        SUBJECT_ID, HADM_ID, ICUSTAY_ID
        neighbour_id               the ICUSTAY_ID of another stay
        age                        years, at the subject's first admission
        intime, outtime            seconds; charting ends at outtime, by leaving or death
        admitted, left             seconds; of the admission
        died                       in the hospital
        newborn, carevue, charted  flags; carevue: charted in CareVue, else in MetaVision
        weight, height             kg and cm; of the subject
        traits, phenotype_risk     (F,) and (K,); of the admission
        mean, severity             from `physiology.simulate`
    tables: by name, without ROW_ID and without empty columns
    """

    stays: pl.DataFrame
    tables: dict[str, pl.DataFrame]


def draw_records(patients: int, streams: Streams, *, carevue: bool = True) -> Records:
    """Draw all subjects, simulate their stays, and return the stays and the tables.

    carevue: whether CareVue charts some subjects; otherwise MetaVision charts all of them
    """
    subject_id = draw_subject_ids(patients, streams("subject ids"))
    plan = _plan(patients, streams("plan"))
    admissions = plan.filter(pl.col("admission").is_first_distinct())
    age = np.maximum((admissions["age"].to_numpy() - AGE_MEAN) / AGE_SPREAD, -2.0)
    traits = physiology.draw_traits(age, admissions["subject"].to_numpy(), streams("traits"))
    risk = physiology.phenotype_risk(traits)
    own = plan["admission"].to_numpy()
    mean = physiology.mean_severity(traits[own], age[own], streams("severity"))
    course = physiology.simulate(mean, streams("course"))
    stays = _stays(plan.hstack(course), subject_id, streams).with_columns(
        pl.col("carevue") & carevue, traits=traits[own], phenotype_risk=risk[own]
    )
    deaths_before = (pl.col("died").cum_sum() - pl.col("died")).over("subject")
    stays = stays.filter(deaths_before == 0)

    # An admission ends as its last stay does, so the last stay represents it.
    last = stays.filter(pl.col("admission").is_last_distinct())
    luck = _luck(admissions["subject"].to_numpy(), patients, streams("phenotypes"))
    drawn = physiology.draw_phenotypes(risk, luck)[last["admission"].to_numpy()]
    died_at = _dates_of_death(last, streams("deaths"))
    tables = {
        "PATIENTS": _patients(stays, died_at, streams("patients")),
        "ADMISSIONS": _admissions(last, drawn, streams("admissions")),
        "ICUSTAYS": _icustays(stays, streams("icustays")),
        "DIAGNOSES_ICD": _diagnoses(last, drawn, streams("diagnoses")),
        "D_ICD_DIAGNOSES": _dictionary(),
    }
    return Records(stays, tables)


def draw_subject_ids(num: int, rng: np.random.Generator) -> Ints:
    """Return ids in MIMIC-III's range, so that each part of the published split has its share."""
    published = pl.read_csv(resource("published_split.csv").read_bytes())
    parts = []
    for split, share in SPLIT_SHARES.items():
        known = published.filter(split=split)["subject_id"].to_numpy()
        if round(num * share) > len(known):
            most = int(len(known) / share)
            raise InputError(
                f"--patients is {num}; the published split has ids for at most {most:,}."
            )
        parts.append(rng.choice(known, size=round(num * share), replace=False))
    others = np.setdiff1d(np.arange(*SUBJECT_IDS), published["subject_id"].to_numpy())
    parts.append(rng.choice(others, size=num - sum(map(len, parts)), replace=False))
    return np.sort(np.concatenate(parts)).astype(np.int64)


# --- admissions and stays -------------------------------------------------------------------------


def _plan(patients: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return the planned stays (subject, admission, age); a death cancels the later ones."""
    age = np.clip(rng.normal(AGE_MEAN, AGE_SPREAD, patients), 18.2, 99.0)
    young = rng.random(patients)
    age = np.where(young < RATES["minor"], rng.uniform(15.0, 17.5, patients), age)
    age = np.where(young > 1 - RATES["newborn"], 0.0, age)
    again = np.where(age < 18, 0, _again(RATES["second admission"], patients, rng))
    subject = np.repeat(np.arange(patients), 1 + again)
    again = _again(RATES["second stay in an admission"], len(subject), rng)
    admission = np.repeat(np.arange(len(subject)), 1 + again)
    subject = subject[admission]
    return pl.DataFrame({"subject": subject, "admission": admission, "age": age[subject]})


def _again(rate: float, num: int, rng: np.random.Generator) -> Ints:
    """Return (num,) repetitions: 0, 1 or 2."""
    first, second = rng.random((2, num)) < rate
    return first.astype(np.int64) + (first & second)


def _stays(planned: pl.DataFrame, subject_id: Ints, streams: Streams) -> pl.DataFrame:
    """Return all planned stays, also those after a death, with times, ids and bodies."""
    subject, admission = (planned[c].to_numpy() for c in ("subject", "admission"))
    patients, num = len(subject_id), planned.height
    intime, admitted = _times(planned, patients, streams("times"))
    rng = streams("ids")
    icustay_id = rng.choice(np.arange(*ICUSTAY_IDS), size=num, replace=False)
    hadm_id = rng.choice(np.arange(*HADM_IDS), size=admission[-1] + 1, replace=False)
    rng = streams("bodies")
    weight = np.clip(rng.normal(82, 20, patients), 38, 190)[subject]
    height = np.clip(rng.normal(170, 9.5, patients), 145, 200)[subject]
    newborn = pl.col("age") == 0
    end = pl.col("intime") + (pl.col("unit_hours") * HOUR).cast(pl.Int64)
    left = (pl.col("intime") + (pl.col("hours") * HOUR).cast(pl.Int64)) // MINUTE * MINUTE
    return planned.with_columns(
        newborn=newborn,
        SUBJECT_ID=subject_id[subject],
        HADM_ID=hadm_id[admission],
        ICUSTAY_ID=icustay_id,
        neighbour_id=np.roll(icustay_id, 1),
        intime=intime,
        admitted=admitted,
        weight=pl.when(newborn).then(3.2).otherwise(weight),
        height=pl.when(newborn).then(50.0).otherwise(height),
        carevue=(rng.random(patients) < RATES["CareVue"])[subject],
        charted=rng.random(num) >= RATES["no event"],
    ).with_columns(
        outtime=pl.when("died").then(pl.min_horizontal(end, left)).otherwise(end), left=left
    )


def _times(planned: pl.DataFrame, patients: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the seconds of each stay's admission to the unit and to the hospital."""
    subject, admission = (planned[c].to_numpy() for c in ("subject", "admission"))
    num, stay = len(subject), planned["admission"]
    kind = rng.random(num)  # most patients come straight to the unit
    delay = np.select(
        [kind < 0.6, kind < 0.9],
        [rng.uniform(30, 120, num), rng.exponential(10 * HOUR, num)],
        rng.exponential(40 * HOUR, num),
    )
    gap = np.clip(rng.exponential(500 * DAY, num), 7 * DAY, 5 * _YEAR)
    before = np.where(stay.is_first_distinct(), delay, 0)
    after = np.where(stay.is_last_distinct(), gap, 0)
    length = before + planned["hours"].to_numpy() * HOUR + after
    passed = np.cumsum(length) - length
    begin = rng.uniform(FIRST_ADMISSION, LAST_FIRST_ADMISSION, patients)
    own_first = np.searchsorted(subject, subject)
    intime = begin[subject] + passed - passed[own_first] + before
    admitted = (intime - before)[np.searchsorted(admission, admission)]
    return intime.astype(np.int64), (admitted // MINUTE * MINUTE).astype(np.int64)


def _luck(subject: Ints, patients: int, rng: np.random.Generator) -> Floats:
    """Return uniform draws, (admissions, K); chronic phenotypes have one draw per subject."""

    def spread_evenly(num: int) -> Floats:  # one in each num-th of [0, 1): a steadier prevalence
        order = np.tile(np.arange(num)[:, None], len(PHENOTYPES))
        return (rng.permuted(order, axis=0) + rng.random(order.shape)) / num

    own, shared = spread_evenly(len(subject)), spread_evenly(patients)[subject]
    acute = np.array([phenotypes()[name]["kind"] == "acute" for name in PHENOTYPES])
    return np.where(acute, own, shared)


# --- tables ---------------------------------------------------------------------------------------


def _text(seconds: pl.Expr | str) -> pl.Expr:
    """Return times as MIMIC-III writes them."""
    return pl.from_epoch(seconds, "s").dt.strftime("%Y-%m-%d %H:%M:%S")


def _dates_of_death(last: pl.DataFrame, rng: np.random.Generator) -> pl.Series:
    """Return (subjects,) the midnight of the day of death, in seconds; null for the living."""
    kind = pl.Series(rng.random(last.height))
    later = pl.Series(rng.exponential(400 * DAY, last.height)).cast(pl.Int64) + DAY
    moment = (
        pl.when(pl.col("died") | (kind < RATES["death on the day of discharge"]))
        .then("left")
        .when(kind > 1 - RATES["death later"])
        .then(pl.col("left") + later)
    )
    days = last.select("subject", died_at=moment // DAY * DAY)
    return days.filter(pl.col("subject").is_last_distinct())["died_at"]


def _patients(stays: pl.DataFrame, died_at: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    num, date = len(died_at), _text("died_at")
    age = pl.when(pl.col("age") > MAX_AGE_SHOWN).then(300.0).otherwise("age")
    born = pl.col("intime") - (age * _YEAR).cast(pl.Int64)
    born = pl.when("newborn").then("admitted").otherwise(born)
    stays = stays.with_columns(in_hospital=pl.col("died").any().over("subject"))
    first = stays.filter(pl.col("subject").is_first_distinct()).with_columns(died_at)
    return first.select(
        "SUBJECT_ID",
        GENDER=np.where(rng.random(num) < 0.56, "M", "F"),
        DOB=_text(born // DAY * DAY),
        DOD=date,
        DOD_HOSP=pl.when("in_hospital").then(date),
        DOD_SSN=pl.when(pl.Series(rng.random(num) < 0.6) | ~pl.col("in_hospital")).then(date),
        EXPIRE_FLAG=pl.col("died_at").is_not_null().cast(pl.Int8),
    )


def _admissions(last: pl.DataFrame, drawn: Bools, rng: np.random.Generator) -> pl.DataFrame:
    num = last.height
    timed = pl.Series(rng.random(num) >= RATES["death without DEATHTIME"])
    chosen = pl.DataFrame([_choose(column, num, rng) for column in _FACTS["choices"]])
    kind = pl.when("newborn").then(pl.lit("NEWBORN")).otherwise("ADMISSION_TYPE")
    emergency = (kind == "EMERGENCY") & pl.Series(rng.random(num) < 0.7)
    waited = pl.Series(rng.exponential(5 * HOUR, num) + 600).cast(pl.Int64) // MINUTE * MINUTE
    to = pl.when("died").then(pl.lit("DEAD/EXPIRED")).otherwise("DISCHARGE_LOCATION")
    complaints: dict[str, str] = _FACTS["complaints"]
    having = drawn[:, [PHENOTYPES.index(name) for name in complaints]]
    first = np.argmax(np.column_stack([last["newborn"], having, np.ones(num)]), axis=1)
    admitted = pl.col("admitted")
    return last.hstack(chosen).select(
        *("SUBJECT_ID", "HADM_ID"),
        *("ADMISSION_LOCATION", "INSURANCE", "LANGUAGE", "RELIGION", "MARITAL_STATUS", "ETHNICITY"),
        ADMITTIME=_text(admitted),
        DISCHTIME=_text("left"),
        DEATHTIME=pl.when(pl.col("died") & timed).then(_text("left")),
        ADMISSION_TYPE=kind,
        DISCHARGE_LOCATION=to,
        EDREGTIME=pl.when(emergency).then(_text(admitted - waited)),
        EDOUTTIME=pl.when(emergency).then(_text(admitted + 30 * MINUTE)),
        DIAGNOSIS=pl.Series(["NEWBORN", *complaints.values(), "WEAKNESS"]).gather(first),
        HOSPITAL_EXPIRE_FLAG=pl.col("died").cast(pl.Int8),
        HAS_CHARTEVENTS_DATA=pl.col("charted").cast(pl.Int8),
    )


def _choose(column: str, num: int, rng: np.random.Generator) -> pl.Series:
    texts, weights = zip(*_FACTS["choices"][column].items(), strict=True)
    drawn = rng.choice(len(texts), size=num, p=np.array(weights) / sum(weights))
    return pl.Series(column, [text or None for text in texts]).gather(drawn)


def _icustays(stays: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    num = stays.height
    unit, ward = _units(stays, rng)
    last_unit, last_ward = _units(stays, rng)
    kind = rng.random(num) / RATES["transfer between units or wards"]
    last_unit = np.where(kind < 0.6, last_unit, unit)  # the others change the ward only
    last_ward = np.where(kind < 1, last_ward, ward)
    late = rng.exponential(0.4 * HOUR, num) * (rng.random(num) < RATES["OUTTIME after death"])
    died_here = pl.col("died") & (pl.col("outtime") == pl.col("left"))
    outtime = pl.col("outtime") + pl.when(died_here).then(late.astype(np.int64)).otherwise(0)
    known = pl.Series(rng.random(num) >= RATES["no OUTTIME and LOS"])
    names = pl.Series(list(_FACTS["units"]))
    days = (stays.select(outtime)["outtime"] - stays["intime"]).to_numpy() / DAY
    return stays.select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID"),
        DBSOURCE=np.where(stays["carevue"], "carevue", "metavision"),
        FIRST_CAREUNIT=names.gather(unit),
        LAST_CAREUNIT=names.gather(last_unit),
        FIRST_WARDID=ward,
        LAST_WARDID=last_ward,
        INTIME=_text("intime"),
        OUTTIME=pl.when(known).then(_text(outtime)),
        LOS=pl.when(known).then(pl.Series(np.round(days, 4)).cast(pl.String)),
    )


def _units(stays: pl.DataFrame, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the care unit (its position) and the ward of each stay."""
    units = list(_FACTS["units"].values())
    traits, num = stays["traits"].to_numpy(), stays.height
    pull = [physiology.weigh(traits, u["drawn_by"]) + rng.gumbel(size=num) for u in units[:-1]]
    unit = np.where(stays["newborn"], len(pull), np.argmax(pull, axis=0))
    most = max(len(u["wards"]) for u in units)
    wards = np.array([np.resize(u["wards"], most) for u in units])
    return unit, wards[unit, rng.integers(most, size=num)]


def other_codes() -> list[str]:
    """Return frequent codes of MIMIC-III that belong to none of the 25 phenotypes."""
    inside = {code for facts in phenotypes().values() for code in facts["codes"]}
    return [code for code in _FREQUENT if code not in inside]


def _diagnoses(last: pl.DataFrame, drawn: Bools, rng: np.random.Generator) -> pl.DataFrame:
    """Return the codes of each admission, in random order."""
    num = last.height
    parts: list[pl.DataFrame] = []

    def add(admissions: Ints, codes: pl.Series) -> None:
        parts.append(pl.DataFrame({"row": admissions, "ICD9_CODE": codes}))

    for position, name in enumerate(PHENOTYPES):
        codes = [c for c in phenotypes()[name]["codes"] if c not in NOT_IN_DICTIONARY]
        frequent = np.isin(codes, _FREQUENT)
        weights = np.full(len(codes), 1 / len(codes))
        if frequent.any():
            weights = FREQUENT_CODES * frequent / frequent.sum() + (1 - FREQUENT_CODES) * weights
        having = np.flatnonzero(drawn[:, position])
        having = np.append(having, having[rng.random(len(having)) < SECOND_CODE])
        chosen = rng.choice(len(codes), size=len(having), p=weights)
        add(having, pl.Series(codes).gather(chosen))
    having = np.repeat(np.arange(num), rng.poisson(OTHER_CODES_PER_ADMISSION, num))
    others = pl.Series(other_codes())
    add(having, others.gather(rng.integers(len(others), size=len(having))))
    for code in NOT_IN_DICTIONARY:
        having = np.flatnonzero(rng.random(num) < RATES["code that is not in the dictionary"])
        add(having, pl.repeat(code, len(having), eager=True))
    rows = pl.concat(parts)
    coded = pl.Series(rng.random(num) >= RATES["no diagnosis"])
    return (
        last.select("SUBJECT_ID", "HADM_ID")[rows["row"]]
        .hstack(rows)
        .with_columns(order=rng.random(rows.height))
        .filter(coded.gather(rows["row"]))
        .unique(["HADM_ID", "ICD9_CODE"], keep="first", maintain_order=True)
        .sort("SUBJECT_ID", "HADM_ID", "order")
        .with_columns(SEQ_NUM=pl.int_range(1, pl.len() + 1).over("HADM_ID"))
    )


def _dictionary() -> pl.DataFrame:
    titles = dict.fromkeys(other_codes(), "Other diagnosis")
    titles |= {code: name for name, facts in phenotypes().items() for code in facts["codes"]}
    codes = sorted(titles.keys() - set(NOT_IN_DICTIONARY))
    return pl.DataFrame(
        {
            "ICD9_CODE": codes,
            "SHORT_TITLE": [titles[c][:24].strip() for c in codes],
            "LONG_TITLE": [f"{titles[c]}, code {c}" for c in codes],
        }
    )
