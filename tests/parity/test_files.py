"""The reference's files from a small artificial source: export, compare, import, errors."""

import csv
import io
import shutil

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mimic_reg.clinical.schema import VARIABLES
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract
from mimic_reg.parity.compare import compare, compare_tables
from mimic_reg.parity.export import export
from mimic_reg.parity.files import (
    TASK_FOLDERS,
    TIMESERIES_HEADER,
    python_text,
    quoted,
    six_decimals,
)
from mimic_reg.parity.importing import KIND, import_benchmark
from mimic_reg.parity.listfiles import FLAG_COLUMNS, _reread, csv_lines
from mimic_reg.parity.published import verify_published
from mimic_reg.progress import Progress
from mimic_reg.store import Store, write_json
from tests.raw import at, small_source

HEART_RATE, GLUCOSE, VERBAL, WEIGHT, HEIGHT = 211, 50931, 723, 763, 226730


def odd_source():
    """Return the small source with odd cells: commas, quotes, tiny numbers, no numbers."""
    source = small_source()
    source.chart(VERBAL, 'said "oh", twice', 3.0)
    source.chart(HEART_RATE, "ERROR", 3.5)
    source.chart(HEART_RATE, "86.0", 3.75)
    source.chart(WEIGHT, "70.25", -2.0)
    source.chart(HEIGHT, "171", 30.0)
    row = {"subject_id": 7, "hadm_id": 100_007, "itemid": GLUCOSE, "valueuom": "mg/dL"}
    source.add("LABEVENTS", **row, value="0.00002", charttime=at(3.25))
    source.stay(20, codes=()).chart(HEART_RATE, 80, subject=20)
    source.stay(21, los=None).chart(HEART_RATE, 80, subject=21)
    source.stay(22, codes=("4019", "V1582"))  # no event
    source.stay(23, codes=("4019", "V1582")).chart(HEART_RATE, 80, subject=23)
    return source


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return extract(odd_source().write(folder / "raw"), folder / "store").store


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    return export(store, tmp_path_factory.mktemp("export") / "data").folder


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def edit(path, line, change):
    """Replace one line of a file, counted from 1; None removes it."""
    lines = path.read_text().splitlines()
    changed = change(lines[line - 1])
    lines[line - 1 : line] = [] if changed is None else [changed]
    path.write_text("".join(f"{text}\n" for text in lines))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-2e-4, 2e-4))
def test_numbers_are_spelled_as_python_does(number):
    assert python_text(pl.Series([number, None, 86.0])).to_list() == [repr(number), None, "86.0"]


@given(st.lists(st.text('a,"\n é', max_size=6), min_size=2, max_size=4))
def test_quotes_equal_the_csv_modules(cells):
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    columns = {str(i): [cell] for i, cell in enumerate(cells)}
    ours = csv_lines(pl.DataFrame(columns).select(quoted(pl.col(c)).alias(c) for c in columns))
    assert ours[0] + "\n" == line.getvalue()


def test_six_decimals():
    assert six_decimals(pl.Series([5.0, 327.4168, None])).to_list() == [
        "5.000000",
        "327.416800",
        None,
    ]


def test_spelling_of_odd_cells(exported):
    path = exported / "root" / "train" / "7" / "episode1_timeseries.csv"
    header, *lines = path.read_text().splitlines()
    assert header == TIMESERIES_HEADER
    rows = {float(row["Hours"]): row for row in csv.DictReader([header, *lines])}
    verbal = "Glascow coma scale verbal response"
    assert rows[3.0][verbal] == 'said "oh", twice'
    assert sum('"said ""oh"", twice"' in line for line in lines) == 1
    assert rows[3.5]["Heart Rate"] == "ERROR"
    assert rows[3.75]["Heart Rate"] == "86.0"
    assert rows[0.0]["Heart Rate"] == "70"
    assert rows[3.25]["Glucose"] == "2e-05"
    assert rows[4.0]["Glucose"] == "120.0"
    assert rows[0.0]["Mean blood pressure"] == "59.666698455810547"


def facts(exported, subject, partition="train"):
    path = exported / "root" / partition / str(subject) / "episode1.csv"
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def test_episode_facts(exported):
    (row,) = facts(exported, 7)
    assert list(row)[:3] == ["Icustay", "Ethnicity", "Gender"]
    assert (row["Icustay"], row["Ethnicity"], row["Gender"]) == ("200007", "4", "1")
    assert (row["Weight"], row["Height"]) == ("70.25", "171.0")  # the weight from before admission
    assert (row["Length of Stay"], row["Mortality"]) == ("2.0833", "1")
    assert facts(exported, 20) == []  # no diagnosis
    assert facts(exported, 21)[0]["Length of Stay"] == ""
    assert not (exported / "root" / "train" / "22").exists()  # no event


def test_flags_are_0_if_all_codes_are_digits(exported):
    assert {facts(exported, 7)[0][flag] for flag in FLAG_COLUMNS} == {"0"}
    flags = facts(exported, 23)[0]
    assert [f for f in FLAG_COLUMNS if flags[f] == "1"] == ["Diagnosis 4019", "Diagnosis V1582"]


def test_the_multitask_listfile_of_one_stay(exported):
    lines = (exported / "multitask" / "train_listfile.csv").read_text().splitlines()
    (line,) = (text for text in lines if text.startswith("7_episode1"))
    name, los, mortality, remaining, phenotypes, dying = line.split(",")
    assert (name, los, mortality) == ("7_episode1_timeseries.csv", "49.999200", "47;1;1")
    masks, hours = remaining.split(";")[:50], remaining.split(";")[50:]
    assert masks == ["0"] * 5 + ["1"] * 45  # hours 0 to 4, then all
    assert (hours[0], hours[49]) == ("49.999200", "0.999200")
    assert phenotypes.split(";")[13] == "1"  # 4019, essential hypertension
    masks, labels = dying.split(";")[:50], dying.split(";")[50:]
    assert masks == ["0"] * 5 + ["1"] * 45
    assert labels == ["0"] * 32 + ["1"] * 18  # dies at hour 55


def test_stays_without_hours_have_an_empty_list(tmp_path):
    source = small_source().stay(30, deathtime=at(-1)).chart(HEART_RATE, 80, subject=30)
    store = extract(source.write(tmp_path / "raw"), tmp_path / "store").store
    out = export(store, tmp_path / "out").folder
    lines = (out / "multitask" / "train" / "listfile.csv").read_text().splitlines()
    (line,) = (text for text in lines if text.startswith("30_episode1"))
    assert line.endswith(",;")
    assert compare(store, out).identical


def test_export_refuses_a_folder_that_is_not_empty(store, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        export(store, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failed_export_leaves_nothing(store, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mimic_reg.parity.export._write_listfiles", fail)
    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_export_replaces_the_rest_of_a_killed_one(store, tmp_path):
    left = tmp_path / ".out.partial" / "files" / "root"
    left.mkdir(parents=True)
    (left / "half.csv").write_text("half")
    (tmp_path / "out").mkdir()
    out = export(store, tmp_path / "out").folder
    assert not list(out.rglob("half.csv"))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_export_of_some_tasks(tmp_path):
    raw = small_source().write(tmp_path / "raw")
    store = extract(raw, tmp_path / "store", task_names=["length_of_stay"]).store
    out = export(store, tmp_path / "out").folder
    assert {p.name for p in out.iterdir()} == {"root", "length-of-stay"}
    report = compare(store, out)
    assert report.identical
    assert report.absent == ()


def test_compare_with_its_own_export(store, exported, tmp_path):
    report = compare(store, exported)
    assert report.identical
    assert report.differences.is_empty()
    assert set(report.files) == {"root", *TASK_FOLDERS.values()}
    shutil.copytree(exported, tmp_path / "repository" / "data")
    assert compare(store, tmp_path / "repository").identical


def different(report):
    return report.differences.select(
        "folder", "stay", "channel", "kind", "count", "first_hours"
    ).rows()


def column(name, text):
    """Return a change of one cell in a line of a time series."""

    def change(line):
        cells = next(csv.reader([line]))
        cells[1 + VARIABLES.index(name)] = text
        return ",".join(cells)

    return change


TIMESERIES = "root/train/8/episode1_timeseries.csv"
PHENOTYPING = "phenotyping/train/8_episode1_timeseries.csv"
TAMPERED = {
    "a value": (
        lambda d: edit(d / TIMESERIES, 2, column("Heart Rate", "99")),
        ("root", "8_episode1", "Heart Rate", "value", 1, 1 / 60),
    ),
    "a value taken away": (
        lambda d: edit(d / PHENOTYPING, 2, column("Heart Rate", "")),
        ("phenotyping", "8_episode1", "Heart Rate", "value", 1, 1 / 60),
    ),
    "a number spelled otherwise": (
        lambda d: edit(d / TIMESERIES, 2, column("Heart Rate", "71.0")),
        ("root", "8_episode1", "Heart Rate", "spelling", 1, 1 / 60),
    ),
    "a row taken away": (
        lambda d: edit(d / PHENOTYPING, 2, lambda _: None),
        ("phenotyping", "8_episode1", None, "missing row", 1, 1 / 60),
    ),
    "a row more": (
        lambda d: edit(d / PHENOTYPING, 2, lambda line: f"{line}\n0.5{',' * 17}"),
        ("phenotyping", "8_episode1", None, "extra row", 1, 0.5),
    ),
    "a file taken away": (
        lambda d: (d / PHENOTYPING).unlink(),
        ("phenotyping", "8_episode1", None, "missing file", 1, None),
    ),
    "a file more": (
        lambda d: (d / "multitask/test/99_episode2_timeseries.csv").write_text(""),
        ("multitask", "99_episode2", None, "extra file", 1, None),
    ),
    "a file more in root": (
        lambda d: (d / "root/train/8/episode2.csv").write_text(""),
        ("root", "8_episode2", None, "extra file", 1, None),
    ),
    "a file without content": (
        lambda d: (d / PHENOTYPING).write_text(""),
        ("phenotyping", "8_episode1", None, "unreadable file", 1, None),
    ),
    "an episode's fact": (
        lambda d: edit(d / "root/train/8/episode1.csv", 2, lambda s: s.replace(",4,1,", ",4,2,")),
        ("root", "8_episode1", "Gender", "value", 1, None),
    ),
    "a label": (
        lambda d: edit(
            d / "in-hospital-mortality/val_listfile.csv",
            2,
            lambda s: s[:-1] + str(1 - int(s[-1])),
        ),
        ("in-hospital-mortality", "9_episode1", "y_true", "value", 1, None),
    ),
    "a sample": (
        lambda d: edit(d / "decompensation/val_listfile.csv", 3, lambda _: None),
        ("decompensation", "9_episode1", None, "missing sample", 1, 6.0),
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_compare_finds_exactly_the_changes(store, copy, name):
    tamper, expected = TAMPERED[name]
    tamper(copy)
    report = compare(store, copy)
    assert different(report) == [expected]
    assert report.identical == (expected[3] == "spelling")
    assert report.summary()["count"].to_list() == [1]


def test_rows_with_the_same_time_are_compared_in_order():
    ours = "Hours,a\n1.0,x\n1.0,y\n"
    assert compare_tables(ours, "Hours,a\n1.0,x\n1.0,z\n") == [("a", "value", 1, 1.0)]
    assert compare_tables(ours, "Hours,a\n1.0,x\n") == [(None, "missing row", 1, 1.0)]
    assert compare_tables(ours, "a,Hours\nx,1.0\ny,1.0\n") == []


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028"])
def test_line_breaks_within_a_cell_are_compared(end):
    ours = f'Hours,a\n1.0,"x{end}y"\n'
    assert compare_tables(ours, ours.replace("\n1.0", "\r\n1.0")) == []
    assert compare_tables(ours, "Hours,a\n1.0,xy\n") == [("a", "value", 1, 1.0)]


def test_compare_names_absent_folders(store, copy):
    shutil.rmtree(copy / "multitask")
    shutil.rmtree(copy / "root")
    report = compare(store, copy)
    assert report.identical
    assert report.absent == ("root", "multitask")
    with pytest.raises(InputError, match="holds no output of mimic3-benchmarks"):
        compare(store, copy / "phenotyping")


def test_import_gives_the_store_again(store, exported, tmp_path):
    imported = import_benchmark(exported, tmp_path / "store")
    kept = imported.read("stays.parquet")["icustay_id"].implode()
    for name in store.manifest["files"]:
        if name.startswith("tasks/") or name in ("hourly.parquet", "episode_texts.parquet"):
            ours = store.read(name).filter(pl.col("icustay_id").is_in(kept))
            assert_frame_equal(ours, imported.read(name), check_exact=True)
    episodes = store.read("episodes.parquet").filter(pl.col("icustay_id").is_in(kept))
    assert_frame_equal(episodes, imported.read("episodes.parquet"), check_exact=True)
    missing = set(store.read("stays.parquet")["subject_id"]) - set(
        imported.read("stays.parquet")["subject_id"]
    )
    assert missing == {20, 22}  # no diagnosis; no event
    assert imported.manifest["source"]["kind"] == KIND
    assert imported.manifest["source"]["without_diagnosis"] == 1
    assert Store.open(tmp_path / "store").changed_files() == []


def test_importing_twice_gives_the_same_store(exported, tmp_path):
    stores = [import_benchmark(exported, tmp_path / name) for name in ("a", "b", "a")]
    assert len({s.manifest["fingerprint"] for s in stores}) == 1


def test_import_from_listfiles_without_validation(store, copy, tmp_path):
    for folder in TASK_FOLDERS.values():
        for split in ("train", "val", "test"):
            (copy / folder / f"{split}_listfile.csv").unlink()
    imported = import_benchmark(copy, tmp_path / "store")
    for name in imported.manifest["tasks"]:
        ours = store.read(f"tasks/{name}.parquet")
        assert_frame_equal(ours, imported.read(f"tasks/{name}.parquet"))


def cut(line):
    return line.rsplit(",", 3)[0]


MALFORMED = {
    "a cut line": (
        lambda d: edit(d / TIMESERIES, 3, cut),
        r"8/episode1_timeseries.csv, line 3: it does not have 18 fields",
    ),
    "a longer line": (
        lambda d: edit(d / TIMESERIES, 4, lambda s: s + ",1"),
        r"8/episode1_timeseries.csv, line 4: it does not have 18 fields",
    ),
    "a line break in a field": (
        lambda d: edit(d / TIMESERIES, 3, column("Heart Rate", '"8\n6"')),
        r"8/episode1_timeseries.csv, line 3: its quotes do not match, or a field has a line br",
    ),
    "no number": (
        lambda d: edit(d / TIMESERIES, 3, column("Weight", "heavy")),
        r"8/episode1_timeseries.csv, line 3: Weight is not a number",
    ),
    "no hours": (
        lambda d: edit(d / TIMESERIES, 3, lambda s: s[s.index(",") :]),
        r"8/episode1_timeseries.csv, line 3: Hours is empty",
    ),
    "another header": (
        lambda d: edit(d / TIMESERIES, 1, cut),
        r"8/episode1_timeseries.csv, line 1: the columns are not Hours",
    ),
    "no UTF-8": (
        lambda d: (d / TIMESERIES).write_bytes(b"Hours\xff"),
        r"8/episode1_timeseries.csv is not UTF-8 text \(byte 5\)",
    ),
    "no facts": (
        lambda d: (d / "root/train/8/episode1.csv").unlink(),
        r"8/episode1_timeseries.csv has no episode1.csv in the same folder",
    ),
    "a stay twice": (
        lambda d: shutil.copytree(d / "root/train/8", d / "root/train/88"),
        r"have the same Icustay",
    ),
    "two rows of facts": (
        lambda d: edit(d / "root/train/8/episode1.csv", 2, lambda s: f"{s}\n{s}"),
        r"8/episode1.csv, line 3: there is a second stay",
    ),
    "no mortality": (
        lambda d: edit(
            d / "root/train/8/episode1.csv", 2, lambda s: ",".join([*s.split(",")[:7], *[""] * 129])
        ),
        r"8/episode1.csv, line 2: Mortality is empty",
    ),
    "an unknown stay": (
        lambda d: shutil.rmtree(d / "root/train/8"),
        r"train_listfile.csv, line \d+: its stay has no files",
    ),
    "an empty label": (
        lambda d: edit(d / "decompensation/train_listfile.csv", 5, lambda s: s[:-1]),
        r"decompensation/train_listfile.csv, line 5: a field is empty",
    ),
    "no listfiles": (
        lambda d: [p.unlink() for p in d.glob("length-of-stay/**/*listfile.csv")],
        r"length-of-stay has neither train_listfile.csv",
    ),
    "no root": (lambda d: shutil.rmtree(d / "root"), r"lacks root"),
    "no task": (
        lambda d: [shutil.rmtree(d / f) for f in TASK_FOLDERS.values()],
        r"lacks a task folder",
    ),
    "root before the split": (
        lambda d: shutil.rmtree(d / "root/test"),
        r"root has no train/ and test/ folder",
    ),
    "a subject in two splits": (
        lambda d: shutil.copy(
            d / "decompensation/train_listfile.csv", d / "decompensation/test_listfile.csv"
        ),
        r"same subject in two",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_import_refuses_malformed_files_with_their_line(copy, tmp_path, name):
    spoil, message = MALFORMED[name]
    spoil(copy)
    with pytest.raises(InputError, match=message) as error:
        import_benchmark(copy, tmp_path / "store")
    assert "59.66" not in str(error.value)  # no value of a patient
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_import_does_not_replace_an_extracted_store(store, exported, tmp_path):
    with pytest.raises(InputError, match="holds more than the files of mimic3-benchmarks"):
        import_benchmark(exported, store.folder)
    assert store.changed_files() == []
    write_json(tmp_path / "manifest.json", {"source": None})
    with pytest.raises(InputError, match=r"manifest\.json is damaged, or is not the manifest of a"):
        import_benchmark(exported, tmp_path)


def test_an_imported_store_cannot_be_exported(exported, tmp_path):
    imported = import_benchmark(exported, tmp_path / "store")
    with pytest.raises(InputError, match="was imported"):
        export(imported, tmp_path / "out")
    with pytest.raises(InputError, match="was imported"):
        compare(imported, exported)


def test_a_corrected_store_is_not_the_published_one(tmp_path):
    raw = small_source().write(tmp_path / "raw")
    store = extract(raw, tmp_path / "store", mode="corrected").store
    with pytest.raises(InputError, match="corrected mode"):
        verify_published(store)
    told = []
    progress = Progress()
    progress.note = told.append
    compare(store, export(store, tmp_path / "csv").folder, progress)
    assert told == ["This store is in corrected mode: its values differ from the benchmark's."]


@settings(max_examples=20)
@given(st.floats(18, 400))
def test_ages_change_by_a_last_bit_at_most(age):
    assert float(_reread(age)) == pytest.approx(age, rel=5e-16)


def test_listfiles_without_a_stay(tmp_path, exported):
    copy = shutil.copytree(exported, tmp_path / "copy")
    for split in ("train", "val", "test"):
        path = copy / "phenotyping" / f"{split}_listfile.csv"
        path.write_text(path.read_text().split("\n")[0] + "\n")
    with pytest.raises(InputError, match=r"The listfiles in .* name no stay for phenotyping\."):
        import_benchmark(copy, tmp_path / "store")


class Changing(Progress):
    """Changes a file when the first stage starts."""

    def __init__(self, path):
        self.path = path

    def stage(self, name, total, unit):
        self.path.write_text(self.path.read_text())


@pytest.mark.parametrize("pattern", ["root/*/*/episode1.csv", "decompensation/test_listfile.csv"])
def test_files_that_change_while_they_are_imported(tmp_path, exported, pattern):
    copy = shutil.copytree(exported, tmp_path / "copy")
    path = next(copy.glob(pattern))
    with pytest.raises(MimicRegError, match=f"{path.name} changed while it was read"):
        import_benchmark(copy, tmp_path / "store", Changing(path))
    assert not (tmp_path / "store" / "manifest.json").exists()
    assert import_benchmark(copy, tmp_path / "store").changed_files() == []
