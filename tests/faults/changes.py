"""A source that changes underneath an extraction: it is refused, or the store is of what was read.

`CHANGES` are ways in which a table may change; a test or `benchmarks/faults.py` says when.
"""

import csv
import os
import random
import shutil
import threading

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract
from mimic_reg.progress import Progress

STAGES = ("cohort", "chartevents", "labevents", "outputevents", "episodes", "tasks")
# Reversing a column keeps a table's length and makes it another one.
_COLUMNS = {
    **{"PATIENTS": "gender", "ADMISSIONS": "ethnicity", "ICUSTAYS": "los"},
    **{"DIAGNOSES_ICD": "icd9_code", "D_ICD_DIAGNOSES": "icd9_code"},
    **dict.fromkeys(("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS"), "value"),
}
TABLES = tuple(_COLUMNS)


def other(path):
    """Bytes of another table of the same length; every code of a dictionary but two stays."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    column = [name.lower() for name in header].index(_COLUMNS[path.stem.upper()])
    values = [row[column] for row in rows]
    if path.stem.upper() == "D_ICD_DIAGNOSES":
        values = [value[::-1] for value in values[:2]] + values[2:]
    else:
        values.reverse()
    for row, value in zip(rows, values, strict=True):
        row[column] = value
    lines = [",".join(_field(value) for value in row) for row in (header, *rows)]
    content = ("\n".join(lines) + "\n").encode()
    assert len(content) == path.stat().st_size
    assert content != path.read_bytes()
    return content


def _field(text):
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def replace(path):
    """Another file in its place, as downloads and editors do."""
    new = path.with_name("new")
    new.write_bytes(other(path))
    new.rename(path)


def restore(path):
    """As `replace`, with the same length and the time of before: `cp -p`, `rsync --times`."""
    new, state = path.with_name("new"), path.stat()
    new.write_bytes(other(path))
    os.utime(new, ns=(state.st_atime_ns, state.st_mtime_ns))
    new.rename(path)


def overwrite(path):
    """In place, with the same length, in two parts, and the time of before."""
    content, state = other(path), path.stat()
    with path.open("r+b") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        file.write(content[len(content) // 2 :])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def append(path):
    """One more row: the last one, of a subject that is not there."""
    with path.open("rb") as file:
        header, *rest = file.read().decode().splitlines()
    columns = [name.lower() for name in header.split(",")]
    row = next(csv.reader(rest[-1:]))
    for name, value in {
        **{"subject_id": "1", "hadm_id": "2", "icustay_id": "3", "icd9_code": "0010"},
        **{"row_id": "99999999"},
    }.items():
        if name in columns:
            row[columns.index(name)] = value
    with path.open("a") as file:
        file.write(",".join(_field(value) for value in row) + "\n")


def touch(path):
    """The same content at another time."""
    os.utime(path)


CHANGES = {f.__name__: f for f in (replace, restore, overwrite, append, touch)}


class Disturbed(Progress):
    """Changes a table some seconds after a stage began (0: there and then)."""

    def __init__(self, stage, seconds, change):
        self.at, self.seconds, self.change = stage, seconds, change
        self.timer = None

    def stage(self, name, total, unit):
        if name != self.at:
            return
        self.timer = threading.Timer(self.seconds, self.change)
        if self.seconds:
            self.timer.start()
        else:
            self.timer.run()


class Killed(BaseException):
    """Stands for a kill when a stage begins."""


class Dying(Progress):
    """Ends the extraction when a stage begins."""

    def __init__(self, stage):
        self.at = stage

    def stage(self, name, total, unit):
        if name == self.at:
            raise Killed


def content(result):
    """Every file's hash, and the hash of every table."""
    manifest = result.store.manifest
    files = {name: entry["xxh3"] for name, entry in manifest["files"].items()}
    return files, {n: t["xxh3"] for n, t in manifest["source"]["tables"].items()}


class Underneath:
    """Extractions of `source` whose tables change meanwhile, in `folder`."""

    def __init__(self, source, folder):
        self.source, self.folder = source, folder
        folder.mkdir(parents=True, exist_ok=True)
        result = extract(source, folder / "undisturbed", force=True)
        self.seconds, self.undisturbed = result.seconds, content(result)
        self.known = {}

    def expected(self, table, kind, raw):
        """What an extraction of the changed source comes to."""
        kind = {"restore": "replace", "overwrite": "replace"}.get(kind, kind)
        if (table, kind) not in self.known:
            fresh = self.folder / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            self.known[table, kind] = content(extract(raw, fresh))
        return self.known[table, kind]

    def fall(self, table, stage, kind, seconds=0.0):
        """The end of an extraction whose table changed so long after its stage began.

        Returns:
            "refused": it said so, and published nothing
            "after": it was over by then; what it published is of what it read

        Raises:
            AssertionError: it is neither, or the next extraction is not that of the new table.
        """
        raw, store = self._copy()
        path = raw / f"{table}.csv"
        disturbed = Disturbed(stage, seconds, lambda: CHANGES[kind](path))
        try:
            result = extract(raw, store, progress=disturbed)
        except InputError as error:
            raise AssertionError("refused for the wrong reason") from error
        except MimicRegError as error:
            said, ended = str(error), "refused"
        else:
            ended = "after"
            assert content(result) == self.undisturbed
        if disturbed.timer.is_alive():
            disturbed.timer.join()
        if ended == "refused":
            assert f"{table}.csv changed while it was read" in said
            assert not (store / "manifest.json").exists()
        self._goes_on(table, kind, raw, store)
        return ended

    def between(self, table, stage, kind):
        """As `fall`, of a table that changed after a kill and before the next start."""
        raw, store = self._copy()
        try:
            extract(raw, store, progress=Dying(stage))
        except Killed:
            CHANGES[kind](raw / f"{table}.csv")
        self._goes_on(table, kind, raw, store)
        return "redone"

    def _copy(self):
        raw, store = self.folder / "raw", self.folder / "store"
        for folder in (raw, store):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.source, raw)
        return raw, store

    def _goes_on(self, table, kind, raw, store):
        """The next extraction is that of the table as it is now, and the one after does nothing."""
        assert content(extract(raw, store)) == self.expected(table, kind, raw)
        assert extract(raw, store).status == "unchanged"


def every_case(seeds):
    """(table, stage, kind, share of the stage's time), and (table, stage, kind, None) for kills."""
    for seed in range(seeds):
        draw = random.Random(f"changes {seed}")
        for table in TABLES:
            for kind in CHANGES:
                for stage in STAGES:
                    yield seed, table, stage, kind, draw.random()
                yield seed, table, draw.choice(STAGES[1:]), kind, None
