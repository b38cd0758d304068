import re

from mimic_reg.report.formats import format_level, format_p, format_task
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.results import collect
from mimic_reg.settings import TrainingSize, training_size
from tests.report.runs import DROPOUT, settings, write_run, write_sweep


def test_markdown(tmp_path):
    write_sweep(tmp_path, methods=("none", "itps"), levels=(0.25, 1.0), seeds=range(3))
    write_run(tmp_path / "bad|<b>", settings(DROPOUT), {}, done=False)
    text = to_markdown(collect([tmp_path]))
    assert "### In-hospital mortality, lstm: test AUROC" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables[0].startswith("| method |")
    assert re.match(r"\| -+ \| -+: \| -+: \|$", tables[1])
    assert len({len(line) for line in tables[:4]}) == 1
    assert "- bad\\|&lt;b>: not finished" in text


def test_texts():
    assert format_level(training_size(0.25)) == "25 %"
    assert format_level(training_size(0.0125)) == "1.25 %"
    assert format_level(TrainingSize(num_samples=1500)) == "1,500 samples"
    assert format_p(0.0123) == "p = 0.012"
    assert format_p(0.0001) == "p < 0.001"
    assert format_task("in_hospital_mortality") == "In-hospital mortality"
