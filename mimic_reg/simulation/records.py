"""The simulated hospital's records: subjects, admissions, stays and diagnoses.

Times are whole seconds since 1970 until they are written; all stays lie between 2100 and 2200.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.schema import PHENOTYPES, phenotypes, resource
from mimic_reg.simulation import physiology
from mimic_reg.simulation.physiology import Bools, Floats, Hospital, Ints

Table = pl.DataFrame
Streams = Callable[[str], np.random.Generator]

# How often the oddities of the real tables occur, each independent of the others.
RATES = {
    "second admission": 0.18,  # and as many of those have a third
    "second stay in an admission": 0.06,  # of those who live, and again for a third
    "transfer between units or wards": 0.12,  # some of these end where they began
    "newborn": 0.02,
    "minor": 0.02,  # 15 to 17 years old
    "no OUTTIME and LOS": 0.004,
    "no diagnosis": 0.004,
    "no event": 0.005,
    "code that is not in the dictionary": 0.01,  # for each of those codes
    "death without DEATHTIME": 0.01,
    "death on the day of discharge": 0.002,  # counts as in-hospital: DOD is a midnight
    "death later": 0.25,
    "OUTTIME after death": 0.4,
    "CareVue": 0.55,  # of the subjects; the others have MetaVision
}
AGE_MEAN, AGE_SPREAD = 64.0, 16.5
MAX_AGE_SHOWN = 89.0  # older patients are born 300 years before their first stay
SPLIT_SHARES = {"test": 0.15, "val": 0.15}
SUBJECT_IDS, HADM_IDS, ICUSTAY_IDS = (2, 100_000), (100_001, 200_000), (200_001, 300_000)
FIRST_YEAR, LAST_YEAR = 2100, 2185  # of first admissions
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_YEAR = 365 * _DAY

# Careunit: its wards, and what draws a patient there.
UNITS: dict[str, tuple[tuple[int, ...], dict[str, float]]] = {
    "MICU": ((15, 23, 50, 52), {"inflammation": 0.8, "gas_exchange": 0.5, "hepatic": 0.5}),
    "CCU": ((7,), {"cardiac": 1.0, "rhythm": 0.4, "pacing": 0.4}),
    "CSRU": ((12, 14), {"surgical": 0.9, "vascular": 0.5}),
    "SICU": ((33,), {"surgical": 0.6, "neurological": 0.6}),
    "TSICU": ((57,), {"bleeding": 0.7, "neurological": 0.4}),
}
NEWBORN_UNIT, NEWBORN_WARD = "NICU", 56
COMPLAINTS = {
    "Septicemia (except in labor)": "SEPSIS",
    "Acute cerebrovascular disease": "STROKE/TIA",
    "Gastrointestinal hemorrhage": "UPPER GI BLEED",
    "Acute myocardial infarction": "MYOCARDIAL INFARCTION",
    "Pneumonia (except that caused by tuberculosis or sexually transmitted disease)": "PNEUMONIA",
    "Congestive heart failure; nonhypertensive": "CONGESTIVE HEART FAILURE",
    "Coronary atherosclerosis and other heart disease": "CORONARY ARTERY DISEASE\\CABG /SDA",
}
CHOICES: dict[str, dict[str, float]] = {
    "ETHNICITY": {
        **{"WHITE": 68, "BLACK/AFRICAN AMERICAN": 9, "HISPANIC OR LATINO": 3, "ASIAN": 2},
        **{"UNKNOWN/NOT SPECIFIED": 7, "OTHER": 3, "UNABLE TO OBTAIN": 2, "PORTUGUESE": 0.5},
        **{"WHITE - RUSSIAN": 1, "ASIAN - CHINESE": 1, "BLACK/CAPE VERDEAN": 0.5},
        **{"HISPANIC/LATINO - PUERTO RICAN": 1, "PATIENT DECLINED TO ANSWER": 1},
        **{"MIDDLE EASTERN": 0.5, "CARIBBEAN ISLAND": 0.3, "SOUTH AMERICAN": 0.2},
    },
    "ADMISSION_TYPE": {"EMERGENCY": 82, "ELECTIVE": 15, "URGENT": 3},
    "ADMISSION_LOCATION": {
        **{"EMERGENCY ROOM ADMIT": 45, "CLINIC REFERRAL/PREMATURE": 20},
        **{"TRANSFER FROM HOSP/EXTRAM": 18, "PHYS REFERRAL/NORMAL DELI": 17},
    },
    "DISCHARGE_LOCATION": {
        **{"HOME": 30, "HOME HEALTH CARE": 25, "SNF": 25, "REHAB/DISTINCT PART HOSP": 20}
    },
    "INSURANCE": {"Medicare": 50, "Private": 37, "Medicaid": 9, "Government": 3, "Self Pay": 1},
    "LANGUAGE": {"": 35, "ENGL": 55, "SPAN": 5, "RUSS": 3, "PTUN": 2},
    "RELIGION": {"CATHOLIC": 40, "NOT SPECIFIED": 30, "PROTESTANT QUAKER": 15, "JEWISH": 15},
    "MARITAL_STATUS": {"MARRIED": 48, "SINGLE": 28, "WIDOWED": 14, "DIVORCED": 6, "": 4},
}

# Headings of ICD-9-CM: the phenotypes' lists have them, the dictionary of MIMIC-III does not, so
# whoever has only these does not have the phenotype.
NOT_IN_DICTIONARY = ("585", "5185", "4912", "2765", "V450")
OTHER_CODES_PER_ADMISSION = 4.5
SECOND_CODE = 0.2  # share of a phenotype's patients with two of its codes
FREQUENT_CODES = 0.75  # share of codes drawn from the ones that are frequent in MIMIC-III


@dataclass(frozen=True)
class Stays:
    """The stays that took place: N rows, ordered by subject and time.

    subject, admission: 0, 1, ... ; the ids beside them are the ones of the tables
    intime, outtime:    seconds; outtime is when charting ends: the leaving, or the death
    admitted, left:     seconds; of the admission
    carevue:            charted in CareVue, else in MetaVision
    charted:            whether the stay has events
    neighbour_id:       an ICUSTAY_ID that is not the stay's
    weight, height:     kg and cm; of the subject
    """

    subject: Ints
    admission: Ints
    subject_id: Ints
    hadm_id: Ints
    icustay_id: Ints
    neighbour_id: Ints
    intime: Ints
    outtime: Ints
    admitted: Ints
    left: Ints
    died: Bools
    carevue: Bools
    charted: Bools
    newborn: Bools
    weight: Floats
    height: Floats
    traits: Floats
    mean: Floats
    severity: np.ndarray[Any, np.dtype[np.float32]]

    def __len__(self) -> int:
        return len(self.icustay_id)

    def take(self, rows: Ints | Bools) -> "Stays":
        """Some of the stays."""
        return Stays(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True)
class Records:
    """The stays, the tables that list them, and the true risk of each phenotype (N, K)."""

    stays: Stays
    tables: dict[str, Table]
    phenotype_risk: Floats


def text_of(seconds: Ints) -> pl.Series:
    """Times as MIMIC-III writes them."""
    times = pl.Series(seconds * 1_000_000).cast(pl.Datetime("us"))
    return times.dt.strftime("%Y-%m-%d %H:%M:%S")


def _where(there: Bools, texts: pl.Series) -> pl.Series:
    return texts.set(pl.Series(~there), None)


def _choose(name: str, num: int, rng: np.random.Generator) -> pl.Series:
    texts, weights = list(CHOICES[name]), np.array(list(CHOICES[name].values()))
    drawn = rng.choice(len(texts), size=num, p=weights / weights.sum())
    chosen = pl.Series(name, texts).gather(drawn)
    return chosen.set(chosen == "", None)


def _unique_ids(bounds: tuple[int, int], num: int, rng: np.random.Generator) -> Ints:
    ids: Ints = rng.choice(np.arange(*bounds), size=num, replace=False)
    return ids


def draw_subject_ids(num: int, rng: np.random.Generator) -> Ints:
    """Ids of MIMIC-III's range, so that the published split gives each part its share."""
    published = pl.read_csv(resource("published_split.csv").read_bytes())
    listed = published["subject_id"].to_numpy()
    parts = []
    for split, share in SPLIT_SHARES.items():
        known = published.filter(split=split)["subject_id"].to_numpy()
        if round(num * share) > len(known):
            most = int(len(known) / share)
            raise InputError(
                f"--patients is {num}; the published split has ids for at most {most:,}."
            )
        parts.append(rng.choice(known, size=round(num * share), replace=False))
    others = np.setdiff1d(np.arange(*SUBJECT_IDS), listed)
    parts.append(rng.choice(others, size=num - sum(map(len, parts)), replace=False))
    ids: Ints = np.sort(np.concatenate(parts)).astype(np.int64)
    return ids


# --- who comes when -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """Everything planned for; some of it will not take place, because the patient dies before."""

    age: Floats  # (subjects,) in years at the first admission
    admission_subject: Ints  # (admissions,)
    stay_admission: Ints  # (N,)

    @property
    def stay_subject(self) -> Ints:
        return self.admission_subject[self.stay_admission]


def _plan(patients: int, rng: np.random.Generator) -> _Plan:
    age = np.clip(rng.normal(AGE_MEAN, AGE_SPREAD, patients), 18.2, 99.0)
    young = rng.random(patients)
    age = np.where(young < RATES["minor"], rng.uniform(15.0, 17.5, patients), age)
    age = np.where(young > 1 - RATES["newborn"], 0.0, age)
    admissions = 1 + _again(RATES["second admission"], patients, rng)
    admissions[age < 18] = 1
    admission_subject = np.repeat(np.arange(patients), admissions)
    stays = 1 + _again(RATES["second stay in an admission"], len(admission_subject), rng)
    return _Plan(age, admission_subject, np.repeat(np.arange(len(admission_subject)), stays))


def _again(rate: float, num: int, rng: np.random.Generator) -> Ints:
    """0, 1 or 2 repetitions."""
    first = rng.random(num) < rate
    return first.astype(np.int64) + (first & (rng.random(num) < rate))


def _before_death(subject: Ints, died: Bools) -> Bools:
    """Stays that take place: none after the subject's first death."""
    deaths: Ints = np.cumsum(died) - died
    present: Bools = deaths == deaths[np.searchsorted(subject, subject)]
    return present


def _is_last(group: Ints) -> Bools:
    return np.append(group[1:] != group[:-1], True)


def _intimes(plan: _Plan, hospital: Hospital, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Seconds of each stay's admission to the unit, and of its admission to the hospital."""
    subject, admission = plan.stay_subject, plan.stay_admission
    num = len(subject)
    first, last = np.append(True, _is_last(admission)[:-1]), _is_last(admission)
    kind = rng.random(num)  # most come straight to the unit
    delay = np.select(
        [kind < 0.6, kind < 0.9],
        [rng.uniform(30, 120, num), rng.exponential(10 * _HOUR, num)],
        rng.exponential(40 * _HOUR, num),
    )
    gap = np.clip(rng.exponential(500 * _DAY, num), 7 * _DAY, 5 * _YEAR)
    before = np.where(first, delay, 0)
    length = before + hospital.hours * _HOUR + np.where(last, gap, 0)
    passed = np.cumsum(length) - length
    begin = rng.uniform(_seconds(FIRST_YEAR), _seconds(LAST_YEAR), len(plan.age))
    own_first = np.searchsorted(subject, subject)
    intime = begin[subject] + passed - passed[own_first] + before
    admitted = (intime - before)[np.searchsorted(admission, admission)]
    return intime.astype(np.int64), (admitted // _MINUTE * _MINUTE).astype(np.int64)


def _seconds(year: int) -> int:
    return int(np.datetime64(f"{year}-01-01", "s").astype(np.int64))


def draw_records(patients: int, streams: Streams) -> Records:
    """Draw all subjects, run their stays, and write down who came when and had what.

    streams: what a random generator is for -> the generator
    """
    subject_id = draw_subject_ids(patients, streams("subject ids"))
    plan = _plan(patients, streams("plan"))
    age = np.maximum((plan.age - AGE_MEAN) / AGE_SPREAD, -2.0)[plan.admission_subject]
    traits = physiology.draw_traits(age, plan.admission_subject, streams("traits"))
    own = plan.stay_admission
    mean = physiology.mean_severity(traits[own], age[own], streams("severity"))
    hospital = physiology.simulate(mean, streams("course"))
    stays = _stays(plan, subject_id, traits, hospital, streams)
    stays = stays.take(_before_death(plan.stay_subject, hospital.died))

    risk = physiology.phenotype_risk(traits)
    drawn = physiology.draw_phenotypes(risk, _luck(plan, streams("phenotypes")))
    # An admission ended as its last stay did, so that one speaks for it.
    last = stays.take(_is_last(stays.admission))
    dod = _dates_of_death(last, patients, streams("deaths"))
    tables = {
        "PATIENTS": _patients(stays, plan.age, dod, streams("patients")),
        "ADMISSIONS": _admissions(last, drawn[last.admission], streams("admissions")),
        "ICUSTAYS": _icustays(stays, streams("icustays")),
        "DIAGNOSES_ICD": _diagnoses(last, drawn[last.admission], streams("diagnoses")),
        "D_ICD_DIAGNOSES": _dictionary(),
    }
    return Records(stays, tables, risk[stays.admission])


def _stays(
    plan: _Plan, subject_id: Ints, traits: Floats, hospital: Hospital, streams: Streams
) -> Stays:
    """All planned stays, also those after a death."""
    subject, admission = plan.stay_subject, plan.stay_admission
    patients, num = len(plan.age), len(admission)
    intime, admitted = _intimes(plan, hospital, streams("times"))
    end = intime + (hospital.unit_hours * _HOUR).astype(np.int64)
    left = (intime + (hospital.hours * _HOUR).astype(np.int64)) // _MINUTE * _MINUTE
    rng = streams("ids")
    icustay_id = _unique_ids(ICUSTAY_IDS, num, rng)
    hadm_id = _unique_ids(HADM_IDS, len(traits), rng)
    rng = streams("bodies")
    newborn = plan.age == 0
    weight = np.where(newborn, 3.2, np.clip(rng.normal(82, 20, patients), 38, 190))
    height = np.where(newborn, 50.0, np.clip(rng.normal(170, 9.5, patients), 145, 200))
    return Stays(
        subject=subject,
        admission=admission,
        subject_id=subject_id[subject],
        hadm_id=hadm_id[admission],
        icustay_id=icustay_id,
        neighbour_id=np.roll(icustay_id, 1),
        intime=intime,
        outtime=np.where(hospital.died, np.minimum(end, left), end),
        admitted=admitted,
        left=left,
        died=hospital.died,
        carevue=(rng.random(patients) < RATES["CareVue"])[subject],
        charted=rng.random(num) >= RATES["no event"],
        newborn=newborn[subject],
        weight=weight[subject],
        height=height[subject],
        traits=traits[admission],
        mean=hospital.mean,
        severity=hospital.severity,
    )


def _luck(plan: _Plan, rng: np.random.Generator) -> Floats:
    """Uniform draws of each (admission, phenotype): once a subject for those that last."""
    own = _spread_evenly(len(plan.admission_subject), rng)
    shared = _spread_evenly(len(plan.age), rng)[plan.admission_subject]
    acute = np.array([phenotypes()[name]["kind"] == "acute" for name in PHENOTYPES])
    return np.where(acute, own, shared)


def _spread_evenly(num: int, rng: np.random.Generator) -> Floats:
    """(num, K) uniform draws, one in each num-th of [0, 1): prevalences scatter less so."""
    order = np.tile(np.arange(num)[:, None], len(PHENOTYPES))
    result: Floats = (rng.permuted(order, axis=0) + rng.random(order.shape)) / num
    return result


# --- tables ---------------------------------------------------------------------------------------


def _with_row_ids(table: Table) -> Table:
    return table.with_row_index("ROW_ID", offset=1)


def _dates_of_death(last: Stays, patients: int, rng: np.random.Generator) -> Ints:
    """(subjects,) midnight of the day of death, in seconds; -1: alive when the data were taken."""
    dod = np.full(patients, -1)
    num = len(last)
    ended = _is_last(last.subject)
    kind, later = rng.random(num), rng.exponential(400 * _DAY, num).astype(np.int64) + _DAY
    same_day = kind < RATES["death on the day of discharge"]
    sometime = kind > 1 - RATES["death later"]
    for chosen, moment in (
        (ended & sometime, last.left + later),
        (ended & same_day, last.left),
        (last.died, last.left),
    ):
        dod[last.subject[chosen]] = moment[chosen] // _DAY * _DAY
    return dod


def _patients(stays: Stays, age: Floats, dod: Ints, rng: np.random.Generator) -> Table:
    subjects, first = np.unique(stays.subject, return_index=True)
    num, intime = len(subjects), stays.intime[first]
    years = np.where(age[subjects] > MAX_AGE_SHOWN, 300.0, age[subjects])
    born = np.where(years == 0, stays.admitted[first], intime - (years * _YEAR).astype(np.int64))
    died, in_hospital = dod[subjects] >= 0, np.isin(subjects, stays.subject[stays.died])
    date = text_of(dod[subjects])
    table = pl.DataFrame(
        {
            "SUBJECT_ID": stays.subject_id[first],
            "GENDER": pl.Series(["F", "M"]).gather((rng.random(num) < 0.56).astype(np.int64)),
            "DOB": text_of(born // _DAY * _DAY),
            "DOD": _where(died, date),
            "DOD_HOSP": _where(in_hospital, date),
            "DOD_SSN": _where(died & ((rng.random(num) < 0.6) | ~in_hospital), date),
            "EXPIRE_FLAG": died.astype(np.int8),
        }
    )
    return _with_row_ids(table.sort("SUBJECT_ID"))


def _admissions(last: Stays, drawn: Bools, rng: np.random.Generator) -> Table:
    num = len(last)
    left, admitted = text_of(last.left), text_of(last.admitted)
    timed = last.died & (rng.random(num) >= RATES["death without DEATHTIME"])
    choices = {name: _choose(name, num, rng) for name in CHOICES}
    newborn = pl.Series(last.newborn)
    choices["ADMISSION_TYPE"] = choices["ADMISSION_TYPE"].set(newborn, "NEWBORN")
    emergency = (choices["ADMISSION_TYPE"] == "EMERGENCY").to_numpy() & (rng.random(num) < 0.7)
    waited = (rng.exponential(5 * _HOUR, num) + 600).astype(np.int64) // _MINUTE * _MINUTE
    table = pl.DataFrame(
        {
            "SUBJECT_ID": last.subject_id,
            "HADM_ID": last.hadm_id,
            "ADMITTIME": admitted,
            "DISCHTIME": left,
            "DEATHTIME": _where(timed, left),
            **{name: choices[name] for name in ("ADMISSION_TYPE", "ADMISSION_LOCATION")},
            "DISCHARGE_LOCATION": choices["DISCHARGE_LOCATION"].set(
                pl.Series(last.died), "DEAD/EXPIRED"
            ),
            **{n: choices[n] for n in ("INSURANCE", "LANGUAGE", "RELIGION", "MARITAL_STATUS")},
            "ETHNICITY": choices["ETHNICITY"],
            "EDREGTIME": _where(emergency, text_of(last.admitted - waited)),
            "EDOUTTIME": _where(emergency, text_of(last.admitted + 30 * _MINUTE)),
            "DIAGNOSIS": _complaints(last, drawn),
            "HOSPITAL_EXPIRE_FLAG": last.died.astype(np.int8),
            "HAS_CHARTEVENTS_DATA": last.charted.astype(np.int8),
        }
    )
    return _with_row_ids(table.sort("SUBJECT_ID", "ADMITTIME"))


def _complaints(last: Stays, drawn: Bools) -> pl.Series:
    which = np.full(len(last), len(COMPLAINTS))
    for position, name in reversed(list(enumerate(COMPLAINTS))):
        which[drawn[:, PHENOTYPES.index(name)]] = position
    which[last.newborn] = len(COMPLAINTS) + 1
    return pl.Series([*COMPLAINTS.values(), "WEAKNESS", "NEWBORN"]).gather(which)


def _icustays(stays: Stays, rng: np.random.Generator) -> Table:
    num = len(stays)
    unit, ward = _units(stays, rng)
    last_unit, last_ward = _units(stays, rng)
    kind = rng.random(num) / RATES["transfer between units or wards"]
    last_unit = np.where(kind < 0.6, last_unit, unit)  # the others change the ward only
    last_ward = np.where(kind < 1, last_ward, ward)
    late = rng.exponential(0.4 * _HOUR, num) * (rng.random(num) < RATES["OUTTIME after death"])
    outtime = stays.outtime + np.where(stays.died & (stays.outtime == stays.left), late, 0)
    known = rng.random(num) >= RATES["no OUTTIME and LOS"]
    los = (outtime.astype(np.int64) - stays.intime) / _DAY
    table = pl.DataFrame(
        {
            "SUBJECT_ID": stays.subject_id,
            "HADM_ID": stays.hadm_id,
            "ICUSTAY_ID": stays.icustay_id,
            "DBSOURCE": pl.Series(["metavision", "carevue"]).gather(stays.carevue.astype(int)),
            "FIRST_CAREUNIT": pl.Series([*UNITS, NEWBORN_UNIT]).gather(unit),
            "LAST_CAREUNIT": pl.Series([*UNITS, NEWBORN_UNIT]).gather(last_unit),
            "FIRST_WARDID": ward,
            "LAST_WARDID": last_ward,
            "INTIME": text_of(stays.intime),
            "OUTTIME": _where(known, text_of(outtime.astype(np.int64))),
            "LOS": _where(known, pl.Series(np.round(los, 4)).cast(pl.String)),
        }
    )
    return _with_row_ids(table)


def _units(stays: Stays, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Careunit (position in `UNITS`, or after it) and ward of each stay."""
    pull = [
        physiology.weigh(stays.traits, drawn_by) + rng.gumbel(size=len(stays))
        for _, drawn_by in UNITS.values()
    ]
    unit = np.where(stays.newborn, len(UNITS), np.argmax(pull, axis=0))
    most = max(len(wards) for wards, _ in UNITS.values())
    wards = [np.resize(wards, most) for wards, _ in UNITS.values()]
    table = np.array([*wards, np.full(most, NEWBORN_WARD)])
    return unit, table[unit, rng.integers(most, size=len(stays))]


def other_codes() -> list[str]:
    """Frequent codes of MIMIC-III that belong to none of the 25 phenotypes."""
    inside = {code for facts in phenotypes().values() for code in facts["codes"]}
    return [code for code in _frequent_codes() if code not in inside]


def _frequent_codes() -> list[str]:
    return str(resource("diagnosis_flags.txt").read_text("utf-8")).split()


def _codes(name: str) -> tuple[list[str], Floats]:
    """A phenotype's codes that are in the dictionary, and how often each is drawn."""
    codes = [c for c in phenotypes()[name]["codes"] if c not in NOT_IN_DICTIONARY]
    frequent = np.isin(codes, _frequent_codes())
    weights = np.full(len(codes), 1 / len(codes))
    if frequent.any():
        weights = FREQUENT_CODES * frequent / frequent.sum() + (1 - FREQUENT_CODES) * weights
    return codes, weights


def _diagnoses(last: Stays, drawn: Bools, rng: np.random.Generator) -> Table:
    """Codes of each admission, in random order."""
    parts: list[tuple[Ints, pl.Series]] = []
    for position, name in enumerate(PHENOTYPES):
        codes, weights = _codes(name)
        having = np.flatnonzero(drawn[:, position])
        having = np.append(having, having[rng.random(len(having)) < SECOND_CODE])
        chosen = rng.choice(len(codes), size=len(having), p=weights)
        parts.append((having, pl.Series(codes).gather(chosen)))
    num_others = rng.poisson(OTHER_CODES_PER_ADMISSION, len(last))
    having = np.repeat(np.arange(len(last)), num_others)
    others = pl.Series(other_codes())
    parts.append((having, others.gather(rng.integers(len(others), size=len(having)))))
    for code in NOT_IN_DICTIONARY:
        having = np.flatnonzero(rng.random(len(last)) < RATES["code that is not in the dictionary"])
        parts.append((having, pl.Series([code] * len(having), dtype=pl.String)))
    rows = np.concatenate([having for having, _ in parts])
    coded = rng.random(len(last)) >= RATES["no diagnosis"]
    table = pl.DataFrame(
        {
            "SUBJECT_ID": last.subject_id[rows],
            "HADM_ID": last.hadm_id[rows],
            "ICD9_CODE": pl.concat([codes for _, codes in parts]),
            "order": rng.random(len(rows)),
        }
    ).filter(pl.Series(coded[rows]))
    table = table.unique(["HADM_ID", "ICD9_CODE"], keep="first", maintain_order=True)
    table = table.sort("SUBJECT_ID", "HADM_ID", "order")
    number = pl.int_range(1, pl.len() + 1).over("HADM_ID").alias("SEQ_NUM")
    return _with_row_ids(table.select("SUBJECT_ID", "HADM_ID", number, "ICD9_CODE"))


def _dictionary() -> Table:
    titles = {code: name for name, facts in phenotypes().items() for code in facts["codes"]}
    titles |= dict.fromkeys(other_codes(), "Other diagnosis")
    codes = sorted(c for c in titles if c not in NOT_IN_DICTIONARY)
    table = pl.DataFrame(
        {
            "ICD9_CODE": codes,
            "SHORT_TITLE": [titles[c][:24].strip() for c in codes],
            "LONG_TITLE": [f"{titles[c]}, code {c}" for c in codes],
        }
    )
    return _with_row_ids(table)
