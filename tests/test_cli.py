"""The command as a user meets it: what it prints and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimic_reg import __version__, cli
from tests.raw import small_source

COMMAND = Path(sys.executable).parent / "mimic-reg"


def mimic_reg(*arguments):
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    source = small_source()
    source.tables["DIAGNOSES_ICD"].append(source.tables["DIAGNOSES_ICD"][0])
    return source.write(tmp_path_factory.mktemp("cli") / "raw")


def test_version_and_help():
    assert mimic_reg("--version").stdout == f"mimic-reg {__version__}\n"
    told = mimic_reg("--help")
    assert mimic_reg("extract", "-h").stdout == mimic_reg("extract", "--help").stdout
    assert told.returncode == 0
    assert "mimic-reg synthesize --out raw" in told.stdout
    assert "verify store --published" in " ".join(told.stdout.split())


def test_extract_tells_what_it_did_and_then_that_nothing_is_left_to_do(tmp_path, raw):
    first = mimic_reg("extract", "--source", raw, "--out", tmp_path / "store")
    assert first.returncode == 0, first.stderr
    assert "chartevents" in first.stderr  # progress, plain lines without a terminal
    assert "one stay an admission" in first.stdout
    assert "dropped: no HADM_ID" in first.stdout
    assert "DIAGNOSES_ICD: 1 rows repeat an earlier one and count once." in first.stdout
    assert "Wrote" in first.stdout
    second = mimic_reg("extract", "--source", raw, "--out", tmp_path / "store")
    assert second.returncode == 0
    assert "is up to date: the source is unchanged" in " ".join(second.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["extract", "--out", "x"], "Missing option '--source'"),
        (["extract", "--source", "/nowhere", "--out", "x"], "--source /nowhere is not a folder"),
        (["extract", "--source", "RAW", "--out", "x", "--tasks", "a,b"], "Unknown task a, b."),
        (["extract", "--source", "RAW", "--out", "x", "--memory", "1MB"], "give at least 1GB"),
        (["extract", "--source", "RAW", "--out", "x", "--mode", "best"], "benchmark"),
        (["extract", "--source", "RAW", "--out", "x", "--allow-empty", "ICUSTAYS"], "only CHARTEV"),
        (["extrct"], "No such command 'extrct'"),
    ],
)
def test_bad_usage_is_exit_code_2_without_a_traceback(tmp_path, raw, arguments, text):
    result = mimic_reg(*(raw if a == "RAW" else tmp_path / a if a == "x" else a for a in arguments))
    assert result.returncode == 2
    assert text in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "x").exists()


def test_a_failure_is_exit_code_1(tmp_path, raw):
    out = tmp_path / "store"
    out.mkdir()
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True)"
    )
    script += "; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, out / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        result = mimic_reg("extract", "--source", raw, "--out", out)
        holder.stdin.close()
    assert result.returncode == 1
    assert "Failed: Another run is writing to" in result.stderr


def test_ctrl_c_is_exit_code_1_and_says_that_one_can_go_on(monkeypatch, capsys):
    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("mimic_reg.store.Store.open", interrupted)
    monkeypatch.setattr("sys.argv", ["mimic-reg", "verify", "store"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "run the same command again to go on" in " ".join(capsys.readouterr().err.split())


def test_a_folder_in_a_files_place_is_told_without_a_traceback(monkeypatch, capsys, tmp_path, raw):
    (tmp_path / "store" / "manifest.json").mkdir(parents=True)
    options = ["--source", str(raw), "--out", str(tmp_path / "store")]
    monkeypatch.setattr("sys.argv", ["mimic-reg", "extract", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "manifest.json: Is a directory. Check free space, permissions and what is in its place"
        in told
    )


def test_several_tasks_without_a_strategy_are_told_what_they_need(monkeypatch, capsys, tmp_path):
    options = ["--store", "store", "--model", "lstm", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["mimic-reg", "train", "--task", "phenotyping,x", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "--strategy reptile or joint" in " ".join(capsys.readouterr().err.split())


def test_verify_export_and_import(tmp_path, raw):
    store, folder = tmp_path / "store", tmp_path / "csv"
    mimic_reg("extract", "--source", raw, "--out", store)
    assert "14 files of the store are as they were written" in mimic_reg("verify", store).stdout
    wrong = mimic_reg("verify", store, "--published", "--details", tmp_path / "differing.csv")
    assert wrong.returncode == 1  # made-up patients are not the published ones
    assert "NOT the published benchmark" in wrong.stdout
    assert (tmp_path / "differing.csv").stat().st_mode & 0o077 == 0
    for options, problem in (
        (["--published", "--details", tmp_path / "no" / "x.csv"], "no does not exist"),
        (["--details", tmp_path / "x.csv"], "give --published or --against"),
        (["--published", "--against", raw, "--details", tmp_path / "x.csv"], "of one comparison"),
    ):
        refused = mimic_reg("verify", store, *options)
        assert refused.returncode == 2
        assert problem in " ".join(refused.stderr.split())
    written = mimic_reg("export-benchmark", store, "--out", folder)
    assert written.returncode == 0
    assert "multitask" in written.stdout
    same = mimic_reg("verify", store, "--against", folder)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "The same.")
    assert mimic_reg("import-benchmark", folder, "--out", tmp_path / "again").returncode == 0
    (store / "stays.parquet").unlink()
    broken = mimic_reg("verify", store)
    assert broken.returncode == 1
    assert "stays.parquet changed since it was written" in broken.stderr


def test_simulate_extract_train_and_evaluate(tmp_path):
    raw, store, run = tmp_path / "raw", tmp_path / "store", tmp_path / "run"
    assert "60 simulated patients" in mimic_reg("synthesize", "--out", raw, "--patients", 60).stdout
    assert mimic_reg("extract", "--source", raw, "--out", store).returncode == 0
    (tmp_path / "small.yaml").write_text("lstm: {units: 8}\n")
    options = ["--store", store, "--task", "phenotyping", "--max-epochs", 1]
    options += ["--model", tmp_path / "small.yaml"]
    first = mimic_reg("train", *options, "--method", "lstm/itps", "--seed", 1, "--out", run)
    assert first.returncode == 0, first.stderr
    assert "- itps:" in first.stdout  # the resolved configuration
    assert "macro_auroc" in first.stdout
    again = mimic_reg("train", *options, "--method", "lstm/itps", "--seed", 1, "--out", run)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    other = mimic_reg("train", *options, "--method", "none", "--seed", 1, "--out", run)
    assert other.returncode == 2
    assert "holds another trial" in other.stderr
    scores = mimic_reg("evaluate", run)
    assert scores.stdout.strip() in first.stdout  # the same table
    page = tmp_path / "report.html"
    told = mimic_reg("report", run, "--out", page)
    assert "| itps" in told.stdout
    assert "itps" in page.read_text()
    options[-1] = "lstm"
    wrong = mimic_reg("train", *options, "--method", "itsp", "--out", tmp_path / "x")
    assert wrong.returncode == 2
    assert "Did you mean 'itps'?" in wrong.stderr


def test_stays_that_no_task_uses_are_told(tmp_path):
    source = small_source().stay(20, codes=()).chart(211, 80, subject=20).stay(21)
    told = mimic_reg("extract", "--source", source.write(tmp_path / "raw"), "--out", tmp_path / "s")
    text = " ".join(told.stdout.split())
    assert "Stays that no task uses: 1 without a diagnosis, 1 without a measurement" in text


def test_nothing_of_a_patient_is_printed(tmp_path, raw):
    result = mimic_reg("extract", "--source", raw, "--out", tmp_path / "store")
    for identifier in ("200007", "100007", "10011", "2130-05-01"):
        assert identifier not in result.stdout + result.stderr
