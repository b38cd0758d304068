import pytest

from mimic_reg.experiments import KNOWN_SIZES
from mimic_reg.extraction.audit import published_sizes
from mimic_reg.metrics.comparison import interval
from mimic_reg.report.frames import scores_frame
from mimic_reg.report.markdown import scores_markdown, to_markdown
from mimic_reg.report.page import write_report
from mimic_reg.report.paper import paper, published
from mimic_reg.report.results import collect
from mimic_reg.report.tables import format_minus_paper, format_paper
from mimic_reg.settings import WHOLE, TrainingSize
from mimic_reg.sources.images import cohort
from mimic_reg.tasks import cohort as patients
from tests.report.runs import DROPOUT, ITPS, TRAINING, only_table, write_seeds

IMAGES = {"task": "image_classification", "model": {"dnn": {}}}
FASHION = {
    "cohort": cohort("fashion_mnist", (1, 28, 28), ("a", "b")),
    "num_samples": (10000, 10000),
}
MIMIC = {"num_samples": (3222, 3236)}
TAU = ({"itps": {"tau": 0.25, "beta": 0.1}},)


def test_the_papers_scores_are_shown_with_ours(tmp_path):
    write_seeds(tmp_path, TAU, [0.89, 0.90, 0.88], "accuracy", FASHION, **IMAGES)
    write_seeds(tmp_path, DROPOUT, [0.88], "accuracy", FASHION, **IMAGES)
    write_seeds(tmp_path, ("none",), [0.87, 0.86], "accuracy", FASHION, **IMAGES)
    table = only_table(tmp_path)
    cell = table.cells["itps", WHOLE]
    assert (cell.paper.table, cell.paper.value, cell.paper.sd) == ("VIII", 0.9015, 0.0016)
    difference, bounds = cell.minus_paper
    assert difference == pytest.approx(-0.0115)
    assert bounds == pytest.approx([b - 0.9015 for b in interval([0.89, 0.90, 0.88])])
    assert format_paper(cell, "accuracy") == "0.9015 ± 0.0016"
    assert format_minus_paper(cell, "accuracy") == "-0.0115 (-0.0363 to +0.0133)"
    assert format_minus_paper(table.cells["dropout", WHOLE], "accuracy").endswith(
        "(no interval: one seed)"
    )
    assert table.cells["none", WHOLE].paper is None  # the paper has no such row
    assert table.paper_notes() == []
    row = scores_frame([table]).filter(method="itps").row(0, named=True)
    assert (row["paper"], row["minus_paper"]) == (0.9015, pytest.approx(-0.0115))
    assert "(minus paper)" in scores_markdown(table)
    page = write_report(collect([tmp_path]), tmp_path / "r.html", title="T").read_text("utf-8")
    assert "minus paper: -0.0115 (-0.0363 to +0.0133)" in page


@pytest.mark.parametrize(
    ("files", "changed", "why"),
    [
        (
            {"num_samples": (71, 60)},
            {},
            "71 and 60 validation and test samples, MIMIC-III has 3,222",
        ),
        (MIMIC | {"cohort": patients(["in_hospital_mortality"], simulated=True)}, {}, "simulated'"),
        (MIMIC | {"cohort": patients(["in_hospital_mortality"], corrected=True)}, {}, "corrected'"),
        (
            {**FASHION, "cohort": cohort("mine", (1, 28, 28), ("a", "b"))},
            IMAGES,
            "cohort is 'mine'",
        ),
        ({**FASHION, "num_samples": (10000, 500)}, IMAGES, "10,000 and 500"),
    ],
)
def test_a_score_on_other_data_is_shown_without_the_papers(tmp_path, files, changed, why):
    score = "accuracy" if changed else "auroc"
    write_seeds(tmp_path, ITPS, [0.8, 0.82], score, files, **changed)
    table = only_table(tmp_path)
    assert not table.has_paper
    assert why in table.paper_is_of_other_data
    assert table.paper_notes() == []
    results = collect([tmp_path])
    page = write_report(results, tmp_path / "r.html", title="T").read_text("utf-8")
    assert page.count("are not shown: their data differs") == 1
    assert "paper" not in to_markdown(results)


def test_other_settings_on_the_same_patients_are_listed(tmp_path):
    options = {"tau": 0.05, "beta": 0.1, "latch": True}
    changed = {"model": {"lstm": {"units": 64}}}
    changed["training"] = {**TRAINING, "corrupted_labels": 0.3, "class_weights": "balanced"}
    write_seeds(tmp_path, ({"itps": options},), [0.8], files=MIMIC, **changed)
    table = only_table(tmp_path)
    assert table.cells["itps", WHOLE].paper.value == 0.8513
    notes = " ".join(table.paper_notes())
    corrupted = "training.corrupted_labels 0.3, paper 0"
    of_method = ("itps.tau 0.05, paper 0.15", "itps.latch True, paper False")
    weights = "training.class_weights balanced, paper none"
    for told in (*of_method, "lstm.units 64", corrupted, weights):
        assert told in notes


def test_numbers_of_images_are_matched_and_misprints_are_noted(tmp_path):
    files = {"cohort": cohort("cifar10", (3, 32, 32), ("a", "b")), "num_samples": (10000, 10000)}
    vgg = {"task": "image_classification", "model": {"vgg16": {}}, "num_samples": 500}
    write_seeds(tmp_path / "a", DROPOUT, [0.5], "accuracy", files, **vgg)
    few = TrainingSize(num_samples=500)
    assert only_table(tmp_path / "a").cells["dropout", few].paper.table == "V"
    files = {"num_samples": (520000, 523208)}
    changed = {"task": "decompensation", "supervision": 0.25}
    write_seeds(tmp_path / "b", ("variational_lstm",), [0.8], files=files, **changed)
    assert "probably 0.8635" in " ".join(only_table(tmp_path / "b").paper_notes())


def test_the_facts_are_complete_and_agree_with_what_else_is_known():
    rows = published()
    assert len(rows) == len({(r.data, r.task, r.model, r.method, r.level) for r in rows}) == 362
    assert sorted(r.value for r in rows)[:2] == [0.5725, 0.5731]
    assert round(sum(r.value for r in rows), 4) == 301.7053
    assert round(sum(r.sd for r in rows), 4) == 0.5714
    data = paper()["data"]
    for name, (_, *others) in KNOWN_SIZES.items():
        assert data[name]["sizes"]["image_classification"] == others
    for task, sizes in published_sizes()["samples"].items():
        assert data["mimic-iii"]["sizes"][task] == [sizes["val"], sizes["test"]]
