"""The champion of a registered model: which version has the alias, and when it moves."""

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from mimic_reg.metrics.scores import improves
from mimic_reg_pipelines.tracking.cards import CHAMPION

SCORED_ON = "scored_on"  # tag: the folds that a version's scores are means over
MEAN = "mean_score"  # of a trunk, over the tasks' validation scores: higher is better


def promote(api: MlflowClient, name: str, version: ModelVersion) -> tuple[bool, str]:
    """Move the alias to the version if its validation score, on the same data, is better.

    A model that is hardly trained may have a high score by chance: it never replaces a trained one.
    """
    hardly = version.tags.get("hardly_trained")
    mind = f" Mind: it is hardly trained: {hardly}." if hardly else ""
    champion = find_champion(api, name)
    if champion is None:
        api.set_registered_model_alias(name, CHAMPION, version.version)
        return True, f"It is the first one.{mind}"
    if str(champion.version) == str(version.version):
        return True, f"It was champion before.{mind}"
    selected_by = version.tags["selected_by"]
    score = f"validation_{selected_by}"
    new, old = float(version.tags[score]), float(champion.tags[score])
    better = new > old if selected_by == MEAN else improves(selected_by, new, old)
    if champion.tags["data_fingerprint"] != version.tags["data_fingerprint"]:
        return False, (
            f"Version {champion.version} was validated on other data, so their scores cannot be "
            f"compared. To use this one instead, move the alias {CHAMPION!r} in MLflow's pages."
        )
    ours, theirs = version.tags.get(SCORED_ON), champion.tags.get(SCORED_ON)
    if ours != theirs:
        return False, (
            f"Its score is of {ours}, that of version {champion.version} of {theirs}, so they "
            f"cannot be compared. To use this one, move the alias {CHAMPION!r} in MLflow's pages."
        )
    why = (
        f"Its validation {selected_by} {new:.4f} is {'' if better else 'not '}better than "
        f"{old:.4f} of version {champion.version}.{mind}"
    )
    if bool(hardly) != ("hardly_trained" in champion.tags):
        better = not hardly
        trained = " So it cannot replace a model that is trained."
        why += trained if hardly else f" Version {champion.version} is hardly trained."
    if better:
        api.set_registered_model_alias(name, CHAMPION, version.version)
    return better, why


def find_champion(api: MlflowClient, name: str) -> ModelVersion | None:
    """Return the version that has the alias, or None."""
    aliases = api.get_registered_model(name).aliases
    return api.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None
