from mimic_reg.report.frames import scores_frame
from mimic_reg.report.markdown import scores_markdown
from mimic_reg.report.paper import paper
from mimic_reg.report.tables import format_paper
from mimic_reg.sources.images import cohort
from mimic_reg.store import Store, read_json, write_json
from tests.report.runs import DROPOUT, ITPS, only_table, settings, write_run, write_seeds
from tests.stores import write_store


def test_the_papers_figures_stand_beside_ours(tmp_path):
    changed = {"task": "image_classification", "model": {"dnn": {}}}
    write_seeds(tmp_path, ITPS, [0.89, 0.9], "accuracy", **changed)
    write_seeds(tmp_path, DROPOUT, [0.88, 0.87], "accuracy", **changed)
    write_seeds(tmp_path, ("none",), [0.87, 0.86], "accuracy", **changed)
    table = only_table(tmp_path)
    figure = table.cells["itps", 1.0].paper
    assert (figure.value, figure.sd) == (0.9015, 0.0016)
    assert format_paper(table.cells["itps", 1.0], "accuracy") == "0.9015 ± 0.0016"
    assert format_paper(table.cells["dropout", 1.0], "accuracy") == "0.8818"
    assert format_paper(table.cells["none", 1.0], "accuracy") == "not at hand"
    frame = scores_frame([table]).filter(method="itps")
    assert frame.select("paper", "paper_sd").rows() == [(0.9015, 0.0016)]
    assert "(paper)" in scores_markdown(table)


def test_figures_of_other_images_are_left_out(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=20)
    manifest = read_json(folder / "manifest.json")
    for name, value in (("fashion_mnist", 0.9015), ("cifar10", None)):
        spec = cohort(name, (1, 28, 28), ("a", "b")).model_dump(mode="json")
        write_json(folder / "manifest.json", {**manifest, "cohort": spec})
        store = Store.open(folder)
        trial = settings(ITPS, task="image_classification", model={"dnn": {}})
        scores = {"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}
        write_run(tmp_path / name, trial, scores, store=store, selected_by="accuracy")
        figure = only_table(tmp_path / name).cells["itps", 1.0].paper
        assert (figure and figure.value) == value


def test_no_figure_of_the_paper_is_guessed():
    quoted = {0.9015, 0.8818, 0.8635, 0.8745, 0.8535, 0.85, 0.8492, 0.7564, 0.7466, 0.7403}
    figures = paper()["figures"] + paper()["unplaced"]
    assert {f["value"] for f in figures} == quoted
    assert {f["sd"] for f in figures} == {None, 0.0016, 0.0009, 0.0015}
