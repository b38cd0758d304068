"""The commands: what they print, which files they write, how they refuse."""

import re

import pytest
from typer.testing import CliRunner

from mimic_reg import cli
from mimic_reg.cli.analyse import app
from mimic_reg.errors import InputError
from mimic_reg.report.analyses import hessian, names
from mimic_reg.store import read_json


def analyse(*arguments):
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("name", "figures", "column"),
    [
        ("hessian", {"50_hessian", "100_hessian"}, "trace"),
        ("gradients", {"50_gradients", "100_gradients"}, "raw, last"),
        ("deviations", {"50_deviations", "100_deviations"}, "moved"),
        ("ensembles", {"50_ensembles", "100_ensembles"}, "members"),
        ("selection", {f"selected{s}" for s in ("", "_by_supervision", "_by_tensor")}, "ever"),
        ("thresholds", {"itps_thresholds"}, "threshold"),
    ],
)
def test_a_command_writes_png_and_svg_and_says_where(name, figures, column, runs, tmp_path):
    paths = [runs] if name != "hessian" else [runs / f"none-{level}-0" for level in (50, 100)]
    result = analyse(name, *paths, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    stems = {f"in_hospital_mortality_lstm_{figure}" for figure in figures}
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")}
    assert all(f"{name}" in result.output.replace("\n", "") for name in written)
    assert column in result.output
    assert "In-hospital mortality, lstm" in result.output


def test_every_analysis_has_a_command():
    assert sorted(command.callback.__name__ for command in app.registered_commands) == names()


def test_the_hessian_of_a_run_without_a_probe_is_measured_once(runs, tmp_path):
    file = runs / "unprobed-100-0" / hessian.FILE
    arguments = ["hessian", runs / "unprobed-100-0", "--out", tmp_path]
    try:
        first = analyse(*arguments, "--vectors", 2, "--samples", 8)
        assert first.exit_code == 0, first.output
        written = file.stat().st_mtime_ns
        analyse(*arguments, "--vectors", 2, "--samples", 8)
        assert file.stat().st_mtime_ns == written
        analyse(*arguments, "--vectors", 3, "--samples", 8)
        assert read_json(file)["vectors"] == 3
        written = file.stat().st_mtime_ns
        analyse(*arguments, "--vectors", 2, "--samples", 4)  # what is there is better
        assert file.stat().st_mtime_ns == written
    finally:
        file.unlink(missing_ok=True)


def test_the_report_has_the_analyses_that_are_asked_for(runs, tmp_path):
    page = tmp_path / "report.html"
    names = "deviations,selection"
    arguments = ["report", runs, "--out", page, "--analyse", names, "--analyse", "thresholds"]
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    text = page.read_text("utf-8")
    titles = ("Deviations of parameters", "Selected parameters", "Thresholds")
    assert all(f"<h3>{title}</h3>" in text for title in titles)
    wrong = CliRunner().invoke(cli.app, ["report", str(runs), "--analyse", "selektion"])
    assert "Did you mean 'selection'" in str(wrong.exception)


def test_any_method_can_be_in_focus(runs, tmp_path):
    page = tmp_path / "report.html"
    for focus in ("dropout", "none", "itps (tau=0.01)"):
        result = CliRunner().invoke(
            cli.app, ["report", str(runs), "--out", str(page), "--focus", focus]
        )
        assert result.exit_code == 0, result.output
        text = page.read_text("utf-8")
        tests = text[text.index('<section id="tests">') :].partition("</table>")[0]
        assert set(re.findall(r'<th scope="row">(.*?)</th>', tests)) == {focus}
    wrong = CliRunner().invoke(cli.app, ["report", str(runs), "--focus", "dropuot"])
    assert "No run has the method 'dropuot'. Did you mean 'dropout'" in str(wrong.exception)


def test_runs_that_cannot_be_analysed_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        analyse("selection", tmp_path / "nowhere", "--out", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="There is no run in"):
        analyse("selection", tmp_path / "empty", "--out", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; --out names a folder"):
        analyse("gradients", runs, "--out", tmp_path / "file")
    with pytest.raises(InputError, match=r"No trial selects parameters\. Its methods: none"):
        analyse("selection", runs / "none-50-0", "--out", tmp_path)
