"""The catalogue of methods: found, complete, filtered by kind; its pages are up to date."""

import inspect
from pathlib import Path

import pytest

from mimic_reg import methods, models, probes
from mimic_reg.errors import InputError
from mimic_reg.experiments import catalogue, method_pages
from mimic_reg.experiments.catalogue import entries, sources_of, summary_of
from mimic_reg.settings import find_module
from mimic_reg.settings.files import names
from tests.cli.called import mimic_reg

ROOT = Path(__file__).parents[1]
ENTRIES = {entry.name: entry for entry in entries()}


def test_every_file_and_module_has_an_entry_with_a_summary():
    assert {n for n, e in ENTRIES.items() if e.file} == set(names("methods"))
    assert {module for e in ENTRIES.values() for module in e.modules} == {
        *methods.names(),
        *probes.names(),
    }
    for entry in ENTRIES.values():
        assert entry.summary, entry.name
        assert not entry.summary.endswith("."), entry.name
        assert len(entry.summary) < 160, entry.name
        assert entry.kind != "other", entry.name
        assert set(entry.models) <= set(models.names())
        for module in entry.modules:
            build = find_module(methods.package_of(module), module).build
            options = inspect.signature(build).parameters
            assert set(options) <= set(method_pages.meanings_of(build)), f"{module}: meanings"
            # the line keeps `mimic-reg list methods` from importing the module
            assert "\nKind: " in catalogue._doc(module) or entry.kind == "probe", module
            assert "\n\nUse it " in catalogue._doc(module), f"{module}: when to use it"


def test_entries_of_known_methods():
    assert ENTRIES["l2"].kind == "penalty"
    assert ENTRIES["l2"].summary == "L2 penalty: penalise the squared weights"
    assert ENTRIES["itps_latched"].summary == "ITPS with masked updates and latched selection"
    assert ENTRIES["l2"].source == "Krogh & Hertz, NIPS 1991"
    assert ENTRIES["variational_lstm"].models == ("lstm",)
    assert ENTRIES["mgs"].models == ()
    assert ENTRIES["itps_spectral_dropout"].kind == "dropout + selection"
    assert ENTRIES["none"].kind == "baseline"
    assert not ENTRIES["early_stopping"].file
    assert {e.kind for e in ENTRIES.values() if e.name.endswith("_probe")} == {"probe"}


def test_sentences_and_sources_of_docstrings():
    doc = "Dropout: drop units\nat sites. More.\n\n"
    doc += 'Paper: A et al., "Title: x", JMLR 15\n(2014); B.\n\nEnd.'
    assert summary_of(doc) == "Dropout: drop units at sites"
    assert sources_of(doc) == ('A et al., "Title: x", JMLR 15 (2014)', "B")
    assert sources_of("Nothing is cited.") == ()


def test_a_kind_is_named_by_itself_or_by_one_of_its_methods():
    dropouts = {e.name for e in entries("dropout")}
    assert dropouts >= {"dropout", "guided_dropout", "itps_spectral_dropout", "variational_lstm"}
    assert dropouts & {"l2", "none", "itps"} == set()
    assert entries("l2") == entries("penalty")
    with pytest.raises(InputError, match=r"no kind of methods 'dropuot'.*mean 'dropout'"):
        entries("dropuot")


def test_kinds_follow_from_hooks_without_a_kind_line(monkeypatch):
    monkeypatch.setattr(catalogue, "_doc", lambda name: "Nothing said.")
    assert catalogue.kind_of("norm_penalty") == "penalty"
    assert catalogue.kind_of("itps") == "optimiser"
    assert catalogue.kind_of("dropout") == "network"


def test_the_pages_are_up_to_date():
    wanted = method_pages.pages(catalogue.entries(), ROOT / "benchmarks" / "results")
    files = {p.name: p.read_text("utf-8") for p in (ROOT / "docs" / "methods").glob("*.md")}
    assert files == wanted, "run `make pages`"


def test_a_page_has_all_sections_and_measurements(tmp_path):
    line = {"values": {"norm_penalty.l2": 1e-4}, "seeds": 3, "test": "86.90 ± 0.10"}
    line |= {"method": "l2", "difference": "+0.52 (+0.10 to +0.90)"}
    (tmp_path / method_pages.MEASURED).write_text(
        f'{{"summary": [{str(line)!s}]}}'.replace("'", '"')
    )
    text = method_pages.pages(entries(), tmp_path)["l2.md"]
    for title in ("What it does", "When to use it", "Models", "Options", "File", "Cost of a step"):
        assert f"\n## {title}\n" in text
    assert "| `l2` | float | required | weight of the penalty" in text
    assert "test accuracy 86.90 ± 0.10 %, +0.52 (+0.10 to +0.90) against no method" in text
    assert "squared weights" in text
    assert "Kind: " not in text.replace("Kind: penalty.", "", 1)


def test_a_page_says_why_a_method_cannot_be_compared_with_all(tmp_path):
    why = {name: method_pages.why_not_compared(entry) for name, entry in ENTRIES.items()}
    assert why["dropout"] is why["mgs"] is None
    assert why["variational_lstm"].startswith("It is for other models (lstm), and the comparison")
    assert {n for n, e in ENTRIES.items() if not e.file} <= {
        n for n, reason in why.items() if reason
    }
    texts = method_pages.pages(entries(), tmp_path)
    assert why["early_stopping"] in texts["early_stopping.md"]
    assert "not in the comparison of all methods yet" in texts["dropout.md"]
    page = (ROOT / "benchmarks" / "results" / "methods_fashion_mnist.md").read_text("utf-8")
    assert all(f"- {name}: {reason}" in page for name, reason in why.items() if reason)


def test_costs_are_those_of_a_method_at_work():
    """Distillation's teacher begins late, and the mollified LSTM becomes a plain one."""
    assert ENTRIES["distillation"].costs("dnn") > 1.2
    assert ENTRIES["mollified_lstm"].costs("lstm") > 1.2


def test_the_command_lists_and_filters(tmp_path):
    told = " ".join(mimic_reg("list", "methods").stdout.split())
    assert "(early_stopping)" in told
    some = mimic_reg("list", "methods", "--like", "dropout")
    assert "Srivastava" in some.stdout
    assert "data_gradient" not in some.stdout
    wrong = mimic_reg("list", "methods", "--like", "dropuot")
    assert wrong.returncode == 2
    assert "Did you mean 'dropout'" in wrong.stderr
    assert mimic_reg("list", "methods", "--pages", tmp_path / "pages").returncode == 0
    assert (tmp_path / "pages" / "dropout.md").is_file()
