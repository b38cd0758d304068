"""The registry: a version a trial, and a champion by validation only."""

import json

import pytest

from mimic_reg.errors import InputError
from mimic_reg.store import read_json, write_json
from mimic_reg_pipelines.tracking import client, registry, tracked_run

NAME = "mimic-reg-in_hospital_mortality-lstm"


def champion(uri):
    return client.connect(uri).get_model_version_by_alias(NAME, "champion")


def versions(uri):
    return client.connect(uri).search_model_versions(f"name = '{NAME}'")


def set_test_auroc(folder, value):
    scores = read_json(folder / "scores.json")
    scores["scores"]["test"]["auroc"]["value"] = value
    write_json(folder / "scores.json", scores)


def test_the_name_of_a_class_becomes_one_that_mlflow_takes():
    name = registry.model_name("phenotyping", "package.module:Net")
    assert name == "mimic-reg-phenotyping-package-module-Net"


def test_a_version_has_its_origin_and_scores(run, uri):
    found = registry.register(run, uri=uri, sweep="s")
    described, scores = read_json(run / "trial.json"), read_json(run / "scores.json")["scores"]
    assert (found.name, found.version, found.champion) == (NAME, "1", True)
    assert registry.model_name("in_hospital_mortality", "lstm") == NAME
    version = champion(uri)
    test = scores["test"]["auroc"]
    assert version.tags == {
        "trial_id": described["id"],
        "cohort": "mimic-iii-benchmark",
        "method": "itps",
        "supervision": "1",
        "seed": "0",
        "selected_by": "auroc",
        "validation_auroc": repr(scores["validation"]["auroc"]["value"]),
        "test_auroc": f"{test['value']:.4f}",
        "test_auroc_interval": f"{test['low']:.4f} to {test['high']:.4f}",
        "code_version": described["versions"]["code"] or "mimic-reg 0.1.0",
        "data_fingerprint": described["store"]["fingerprint"],
    }
    assert version.description.startswith("itps, 100% of the training samples, seed 0: test auroc")
    interval = f"{test['value']:.4f} (95 % {test['low']:.4f} to {test['high']:.4f})"
    for told in (
        *(interval, "### Why is it champion?", "by the validation score alone"),
        *("- data: mimic", described["store"]["fingerprint"][:12], "- method: itps"),
    ):
        assert told in version.description
    assert interval in found.summary
    assert "#### Are its risks right?" in version.description
    assert len(version.description) < 5000  # the most that MLflow's databases take
    api = client.connect(uri)
    files = {
        f.path for f in api.list_logged_model_artifacts(version.source.removeprefix("models:/"))
    }
    assert {"card.html", "card.md"} <= files
    model = client.connect(uri).get_registered_model(NAME)
    assert f"Champion: version 1. {found.summary}" in model.description
    assert version.run_id == found.run_id
    model = client.connect(uri).get_logged_model(version.source.removeprefix("models:/"))
    assert {m.key: m.value for m in model.metrics}["test/auroc"] == test["value"]
    (logged,) = client.connect(uri).search_runs([model.experiment_id])
    assert logged.data.tags["sweep"] == "s"
    assert logged.data.metrics["test/auroc"] == test["value"]


def test_a_trial_is_registered_once(run, uri):
    first = registry.register(run, uri=uri)
    again = registry.register(run, uri=uri)
    assert (again.version, again.champion, again.why) == ("1", True, "It was champion before.")
    assert again.run_id == first.run_id
    assert len(versions(uri)) == 1


def test_only_a_better_validation_score_moves_the_champion(variant, uri):
    first, worse, equal, better = (
        variant(s, v) for s, v in ((1, 0.7), (2, 0.6), (3, 0.7), (4, 0.8))
    )
    set_test_auroc(worse, 0.99)  # a test score moves nothing
    set_test_auroc(better, 0.01)
    assert registry.register(first, uri=uri).champion
    for folder in (worse, equal):
        found = registry.register(folder, uri=uri)
        assert not found.champion
        assert "not better than 0.7000 of version 1" in found.why
    assert str(champion(uri).version) == "1"
    found = registry.register(better, uri=uri)
    assert found.champion
    assert "0.8000 is better than 0.7000 of version 1" in found.why
    assert str(champion(uri).version) == found.version == "4"
    assert not registry.register(first, uri=uri).champion  # it was, and is no longer
    told = {version.version: version.description for version in versions(uri)}
    assert "### Why is it champion?\n\nIts validation auroc 0.8000 is better" in told[4]
    for number, why in ((1, "It was champion until version 4"), (2, "not better than 0.7000")):
        assert "### Why is it not champion?" in told[number]
        assert why in told[number]
        assert told[number].count("### Model card") == 1


def test_texts_that_users_wrote_in_the_registry_stay(variant, uri):
    registry.register(variant(1, 0.7), uri=uri)
    api = client.connect(uri)
    api.update_registered_model(NAME, "Ours to describe.")
    registry.register(variant(2, 0.8), uri=uri)
    assert api.get_registered_model(NAME).description == "Ours to describe."


def test_the_page_says_of_how_many_trials_it_is_the_best(variant, uri):
    folders = [variant(1, 0.7), variant(2, 0.8)]
    registry.register_best(folders, uri=uri)
    assert "0.8000 is the best of 2 trials." in champion(uri).description
    why = "### Why is it champion?\n\nIt is the first one."
    for number in (3, 4):  # the sweep goes on
        folders.append(variant(number, 0.6))
        (found,) = registry.register_best(folders, uri=uri, sweep="s")
        told = f"Its validation auroc 0.8000 is the best of {number} trials of the sweep s."
        assert found.why == f"{told} It was champion before."
        page = champion(uri).description
        assert page.count(told) == page.count("is the best of") == page.count(why) == 1
    registry.register(folders[1], uri=uri)  # alone, of no sweep
    assert champion(uri).description == page
    api = client.connect(uri)
    api.update_model_version(NAME, "1", "Ours.\n\n### Why is it champion?\n\nSo.")
    registry.register_best(folders, uri=uri, sweep="s")
    assert champion(uri).description == "Ours.\n\n### Why is it champion?\n\nSo."
    registry.register_best([*folders, variant(5, 0.9)], uri=uri, sweep="s")
    assert "best of 5" in champion(uri).description


def test_a_hardly_trained_model_never_replaces_a_trained_one(variant, uri):
    lucky, later = variant(1, 0.9), variant(2, 0.95)
    trained = variant(3, 0.6)
    for folder, explained in ((lucky, -0.1), (later, -0.1), (trained, 0.2)):
        rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        rows = [{**row, "explained": explained} for row in rows]
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = registry.register(lucky, uri=uri)
    assert found.champion
    assert "Mind: it is hardly trained: its training loss was above" in found.why
    (found,) = registry.register_best([lucky, trained, later], uri=uri)
    assert found.trial_id == tracked_run.read_run(trained).id
    assert found.champion
    assert found.why.endswith("Version 1 is hardly trained.")
    assert not registry.register(later, uri=uri).champion


def test_lower_is_better_where_it_is(variant, uri):
    folders = [variant(1), variant(2)]
    for folder, value in zip(folders, (0.2, 0.1), strict=True):
        scores = read_json(folder / "scores.json")
        scores["selected_by"] = "brier"
        scores["scores"]["validation"]["brier"]["value"] = value
        write_json(folder / "scores.json", scores)
    assert [registry.register(f, uri=uri).champion for f in folders] == [True, True]
    assert tracked_run.read_tracked(folders[1]).id == champion(uri).tags["trial_id"]


def test_a_score_from_other_data_moves_nothing(variant, uri):
    registry.register(variant(1, 0.7), uri=uri)
    client.connect(uri).set_model_version_tag(NAME, "1", "data_fingerprint", "other")
    found = registry.register(variant(2, 0.8), uri=uri)
    assert not found.champion
    assert "Version 1 was validated on other data" in found.why
    assert str(champion(uri).version) == "1"


def test_the_store_must_be_the_one_that_was_trained_on(variant, uri):
    with pytest.raises(InputError, match="fingerprints differ"):
        registry.register(variant(2, 0.8, fingerprint="other"), uri=uri)


def test_the_best_of_every_family_is_registered(variant, trained, uri):
    folders = [variant(1, 0.7), variant(2, 0.8), variant(3, 0.8)]
    unfinished = variant(4, 0.9)
    (unfinished / "done.json").unlink()
    other = trained("decompensation", max_epochs=1, epoch_steps=3, normalizer="fitted")
    found = registry.register_best(
        [*folders, unfinished, other], uri=uri, methods={folders[1]: "ITPS, tuned"}
    )
    assert [(r.name, r.trial_id) for r in found] == [
        ("mimic-reg-decompensation-lstm", tracked_run.read_tracked(other).id),
        (NAME, tracked_run.read_tracked(folders[1]).id),
    ]
    assert champion(uri).tags["method"] == "ITPS, tuned"
    with pytest.raises(InputError, match="no finished trial"):
        registry.register_best([unfinished], uri=uri)


def test_an_undefined_test_score_has_its_reason(variant, uri):
    folder = variant(1, 0.7)
    scores = read_json(folder / "scores.json")
    empty = {"value": None, "reason": "one class", "low": None, "high": None, "replicates": 0}
    scores["scores"]["test"]["auroc"] = empty
    write_json(folder / "scores.json", scores)
    assert registry.register(folder, uri=uri).champion
    tags = champion(uri).tags
    assert tags["test_auroc"] == "undefined: one class"
    assert "test_auroc_interval" not in tags


def test_a_registration_that_was_cut_off_is_completed(run, uri, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "promote", fail)
        with pytest.raises(KeyboardInterrupt):
            registry.register(run, uri=uri)
    assert registry.register(run, uri=uri).champion
    assert len(versions(uri)) == 1
