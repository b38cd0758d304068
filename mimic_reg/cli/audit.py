"""Print the audit of an extraction."""

from typing import Any

from mimic_reg.console import out, say, table

SPLIT_NAMES = {"val": "validation"}  # the published label -> our word


def print_audit(audit: dict[str, Any]) -> None:
    """Print the cohort flow, the fate of events, values and samples."""
    flow = [[s["step"], s["stays"], s["admissions"], s["subjects"]] for s in audit["cohort_flow"]]
    out.print(table("Cohort", ["after", "stays", "admissions", "subjects"], flow))
    if icd10 := audit["diagnoses"].get("icd10"):
        _print_icd10(icd10)
    names = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
    fates = {
        "subject_not_kept": "dropped: subject not in the cohort",
        "empty_hadm": "dropped: no HADM_ID",
        "no_hadm_in_stay": "dropped: HADM_ID of no kept stay",
        "icustay_missing_in_stays": "dropped: another ICUSTAY_ID",
        "kept_recovered": "kept, ICUSTAY_ID from the admission",
        "kept": "kept",
    }
    for name, count in audit["diagnoses"]["repeated"].items():
        if count:
            say(f"{name}: {count:,} rows repeat an earlier one and count once.")
    rows = [[text, *(audit["events"][n][fate] for n in names)] for fate, text in fates.items()]
    out.print(table("Event rows", ["", *names], rows))
    _print_values(audit)
    print_samples(audit)
    if "dataset" in audit:
        differing = audit.get("stays_whose_hospital_expire_flag_differs", 0)
        say(f"Stays whose HOSPITAL_EXPIRE_FLAG is not their mortality label: {differing:,}.")
        return
    if audit["published"] is None:
        say("The source is not the full MIMIC-III v1.4, so its sizes are not compared.")
        return
    pairs = [
        [p["what"], p["published"], p["ours"], "same" if p["same"] else "DIFFERS"]
        for p in audit["published"]
    ]
    out.print(table("Published sizes and ours", ["", "published", "ours", ""], pairs))
    differing = sum(not p["same"] for p in audit["published"])
    if differing:
        say(
            f"{differing:,} of {len(pairs):,} sizes DIFFER. If a table has more or fewer rows than "
            "published, it was loaded twice or not downloaded whole."
        )


def _print_icd10(counts: dict[str, Any]) -> None:
    """Print how the diagnoses in ICD-10 were mapped to ICD-9."""
    if not counts["rows_in_icd10"]:
        return
    texts = {
        "exact": "one ICD-9 code, or one for each part",
        "alternatives_agree": "ambiguous: several ICD-9 codes, of the same phenotypes",
        "alternatives_disagree": "ambiguous: several ICD-9 codes, of different phenotypes",
        "no_equivalent": "unmapped: no equivalent in ICD-9",
        "unknown": "unmapped: not in the mapping",
        "by_a_shorter_code": "newer than the mapping: found by a shorter code",
    }
    rows = [
        [text, *(counts[what][name] for what in ("codes", "rows"))] for name, text in texts.items()
    ]
    out.print(table(f"Diagnoses in ICD-10, by {counts['mapping']}", ["", "codes", "rows"], rows))


def print_samples(audit: dict[str, Any]) -> None:
    """Print the samples of every task and split."""
    rows = [
        [
            f"{task}, {SPLIT_NAMES.get(split, split)}",
            c["samples"],
            c["stays"],
            _positives(c.get("positives")),
        ]
        for task, splits in audit["samples"].items()
        for split, c in splits.items()
    ]
    out.print(table("Samples", ["task, split", "samples", "stays", "positives"], rows))
    left_out = audit["stays_left_out_of_the_tasks"]
    reasons = {
        "no_length_of_stay": "without a length of stay",
        "no_diagnosis": "without a diagnosis",
        "no_event_within_the_stay": "without a measurement in the stay",
    }
    if found := [f"{left_out[r]:,} {text}" for r, text in reasons.items() if left_out.get(r)]:
        say(f"Stays that no task uses: {', '.join(found)}.")


def _print_values(audit: dict[str, Any]) -> None:
    """Print a line on the values of the 17 variables, and one for each oddity."""
    total: dict[str, int] = {}
    for counts in audit["variables"].values():
        for what, count in counts.items():
            total[what] = total.get(what, 0) + count
    apart = ("mapped", "kept", "clipped", "from_valuenum")
    mapped, kept, clipped, shown = (total.pop(what, 0) for what in apart)
    dropped = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in total.items() if n)
    say(f"Values of the 17 variables: {mapped:,} rows, {kept:,} used; {dropped or 'no'} left out.")
    if shown:
        say(f"{shown:,} values are VALUENUMs, since VALUE is hidden (___).")
    if clipped:
        say(f"{clipped:,} values were clipped to their plausible range.")
    if stray := audit["events"]["total"].get("bytes_not_utf8", 0):
        say(f"{stray:,} bytes were not UTF-8 and were read as \ufffd.")
    for name, count in audit["episodes"]["unknown_categories"].items():
        say(f"{name}: {count:,} texts have no channel and count as missing.")


def _positives(positives: int | dict[str, int] | None) -> str:
    if isinstance(positives, dict):
        return f"{sum(positives.values()):,} labels"
    return "" if positives is None else f"{positives:,}"
