"""The command as a user meets it: what it prints and its exit codes."""

import json
import re
import subprocess
import sys

import pytest
import typer.testing

import mimic_reg_pipelines.commands
from mimic_reg import __version__, cli
from tests.cli.called import mimic_reg, words
from tests.raw import small_source


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    source = small_source()
    source.tables["DIAGNOSES_ICD"].append(source.tables["DIAGNOSES_ICD"][0])
    return source.write(tmp_path_factory.mktemp("cli") / "raw")


def test_version_and_help():
    versions = mimic_reg("--version").stdout.splitlines()
    assert versions[0] == f"mimic-reg {__version__}"
    names = "mimic-reg store torch polars mlflow prefect"
    assert [line.split()[0] for line in versions] == names.split()
    told = mimic_reg("--help")
    assert mimic_reg("extract", "-h").stdout == mimic_reg("extract", "--help").stdout
    assert told.returncode == 0
    assert "mimic-reg synthesize --out raw" in told.stdout
    assert "verify store --published" in words(told.stdout)
    assert "--install-completion" in words(told.stdout)


def commands(app, path=()):
    """Every command, with the words that call it."""
    for name, command in typer.main.get_command(app).commands.items():
        if hasattr(command, "commands"):
            yield from (((*path, name, n), c) for n, c in command.commands.items())
        else:
            yield (*path, name), command


def test_every_command_has_the_same_options_and_a_help_of_80_columns():
    app = typer.Typer(cls=cli.app.info.cls, rich_markup_mode=None)
    app.registered_commands += cli.app.registered_commands
    app.registered_groups += cli.app.registered_groups
    mimic_reg_pipelines.commands.add_to(app)
    helps = {}
    for path, command in commands(app):
        told = typer.testing.CliRunner().invoke(app, [*path, "--help"]).stdout
        assert max(map(len, told.splitlines())) <= 80, told
        assert not re.search(r"<\w", told), told
        own = {name: option for option in command.params for name in option.opts}
        assert {"--quiet", "--verbose"} <= own.keys(), path
        assert ("--json" in own) == (path != ("ui",)), path
        for name in ("--set", "--device", "--threads", "--dry-run", "--memory"):
            if name in own:
                helps.setdefault(name, set()).add(own[name].help)
    assert {name: len(found) for name, found in helps.items()} == dict.fromkeys(helps, 1)


HEAVY = {"torch", "torchvision", "sklearn", "mlflow", "prefect", "polars", "pandas", "matplotlib"}


def test_commands_start_fast_without_what_they_do_not_need(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trial.json").write_text("{")
    script = (
        "import sys; from mimic_reg import cli; from mimic_reg.cli import application;"
        "from mimic_reg_pipelines import commands;"
        "commands.add_to(cli.app);"
        "[application.run(lambda: cli.app(each.split(), prog_name='mimic-reg'))"
        " for each in sys.argv[1:]];"
        f"print(*sorted({HEAVY} & sys.modules.keys()))"
    )
    wrong = (
        *("report", "runs", "board", "prune", "import-cohort --out x", "import-benchmark --out x"),
        *("import-images --out x", "ui --work", "import-meds --out x --labels . "),
        *("sweep --config table_09 --out work --store", "run --config demo --out work --source"),
        *("predict --model m --out x --source", "predict --store . --out x --model"),
        "finetune --store . --task x --out x --from",
    )
    for commands, loaded in (
        (["list experiments"], ""),
        (["list methods"], "polars"),
        (["list models"], "polars"),
        ([f"runs {tmp_path}"], "polars"),
        ([f"{command} {tmp_path / 'missing'}" for command in wrong], ""),
    ):
        told = subprocess.run(
            [sys.executable, "-c", script, *commands], capture_output=True, text=True, check=True
        )
        assert told.stdout.splitlines()[-1] == loaded, commands
        refused = told.stderr.count("There is no folder")
        assert refused == len(wrong) * ("missing" in commands[0]), told.stderr


def test_help_loads_nothing_heavy():
    """Of every command, in one process."""
    script = (
        "import sys, typer, typer.testing; from mimic_reg import cli;"
        "from mimic_reg_pipelines import commands; commands.add_to(cli.app);"
        "root = typer.main.get_command(cli.app);"
        "rooms = [[n] + m for n, c in root.commands.items() "
        "for m in ([[k] for k in c.commands] if hasattr(c, 'commands') else [[]])];"
        "told = [typer.testing.CliRunner().invoke(cli.app, [*r, '--help']) for r in [[], *rooms]];"
        "assert all(t.exit_code == 0 and 'Usage' in t.stdout for t in told);"
        f"print(len(told), *sorted({HEAVY} & sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    number, *loaded = told.stdout.split()
    assert int(number) > 25
    assert loaded == []


def test_the_tab_key_completes_names(monkeypatch):
    monkeypatch.setenv("_MIMIC_REG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "mimic-reg train --model l")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert mimic_reg().stdout.split() == ["logistic_regression", "lstm"]


def test_json_is_all_that_is_printed():
    assert "lstm" in json.loads(mimic_reg("list", "models", "--json").stdout)
    refused = mimic_reg("list", "models", "--quiet", "--verbose")
    assert refused.returncode == 2
    assert "exclude each other" in refused.stderr


def test_extract_tells_what_it_did_and_then_that_nothing_is_left_to_do(tmp_path, raw):
    first = mimic_reg("extract", "--source", raw, "--out", tmp_path / "store")
    assert first.returncode == 0, first.stderr
    assert "chartevents" in first.stderr  # progress, plain lines without a terminal
    assert "one stay per admission" in first.stdout
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
        (["verify", "a" * 300], "cannot be read: File name too long. Check its name"),
        (["show", "models:/m@champion"], "RUN: models:/m@champion names a model in MLflow"),
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


def test_ctrl_c_is_exit_code_130_and_says_that_one_can_go_on(monkeypatch, capsys):
    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("mimic_reg.store.Store.open", interrupted)
    monkeypatch.setattr("sys.argv", ["mimic-reg", "verify", "."])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert "run the same command again to continue" in words(capsys.readouterr().err)


def test_ctrl_c_while_the_command_starts_is_a_sentence():
    """Sent by the first import of a library, whatever that library does with an exception."""
    script = (
        "import os, signal, sys; from mimic_reg.cli import main\n"
        "class Finder:\n"
        "    def find_spec(self, name, *given):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "try: main()\n"
        "except BaseException: print('lost')"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (130, "")
    assert told.stderr == "Interrupted. Nothing was done.\n"


def test_a_folder_in_a_files_place_is_told_without_a_traceback(monkeypatch, capsys, tmp_path, raw):
    (tmp_path / "store" / "manifest.json").mkdir(parents=True)
    options = ["--source", str(raw), "--out", str(tmp_path / "store")]
    monkeypatch.setattr("sys.argv", ["mimic-reg", "extract", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = words(capsys.readouterr().err)
    assert (
        "manifest.json: Is a directory. Check free space, permissions and what is in its place"
        in told
    )


def test_several_tasks_without_a_strategy_are_told_what_they_need(monkeypatch, capsys, tmp_path):
    options = ["--store", ".", "--model", "lstm", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["mimic-reg", "train", "--task", "phenotyping,x", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "add --strategy reptile or --strategy joint" in words(capsys.readouterr().err)


def test_verify_export_and_import(tmp_path, raw):
    store, folder = tmp_path / "store", tmp_path / "csv"
    mimic_reg("extract", "--source", raw, "--out", store)
    assert (
        "14 files of the store are unchanged since it was written"
        in mimic_reg("verify", store).stdout
    )
    wrong = mimic_reg("verify", store, "--published", "--details", tmp_path / "differing.csv")
    assert wrong.returncode == 1  # made-up patients are not the published ones
    assert "NOT the published benchmark" in wrong.stdout
    assert (tmp_path / "differing.csv").stat().st_mode & 0o077 == 0
    for options, problem in (
        (["--published", "--details", tmp_path / "no" / "x.csv"], "no. Make it first"),
        (["--details", tmp_path / "x.csv"], "Give either --published or --against"),
        (["--published", "--against", raw, "--details", tmp_path / "x.csv"], "for one comparison"),
    ):
        refused = mimic_reg("verify", store, *options)
        assert refused.returncode == 2
        assert problem in " ".join(refused.stderr.split())
    written = mimic_reg("export-benchmark", store, "--out", folder)
    assert written.returncode == 0
    assert "multitask" in written.stdout
    same = mimic_reg("verify", store, "--against", folder)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "Identical.")
    assert mimic_reg("import-benchmark", folder, "--out", tmp_path / "again").returncode == 0
    (store / "stays.parquet").unlink()
    broken = mimic_reg("verify", store)
    assert broken.returncode == 1
    assert "stays.parquet changed since it was written" in broken.stderr


def test_stays_that_no_task_uses_are_told(tmp_path):
    source = small_source().stay(20, codes=()).chart(211, 80, subject=20).stay(21)
    told = mimic_reg("extract", "--source", source.write(tmp_path / "raw"), "--out", tmp_path / "s")
    text = " ".join(told.stdout.split())
    assert "Stays that no task uses: 1 without a diagnosis, 1 without a measurement" in text


def test_nothing_of_a_patient_is_printed(tmp_path, raw):
    result = mimic_reg("extract", "--source", raw, "--out", tmp_path / "store")
    for identifier in ("200007", "100007", "10011", "2130-05-01"):
        assert identifier not in result.stdout + result.stderr
