"""Labels that can be read off: from one channel, from the number of hours, from padding.

Shapes: N samples, F channels, S statistics.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy.stats import mannwhitneyu, rankdata
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from mimic_reg.checks.base import Outcome, View, counted, outcome, some
from mimic_reg.learners.windows import STATISTICS, features
from mimic_reg.metrics.scores import Score, score
from mimic_reg.metrics.small_counts import LEAST, enough_of_each
from mimic_reg.samples.images import read_pixels
from mimic_reg.store import Store
from mimic_reg.store.spec import Task

TELLS, TELLS_IMAGE = 0.95, 0.99  # AUROC of a single channel, of a single pixel
FOLLOWS = 0.98  # rank correlation of a channel with a real-valued label
_KEY = 0.999  # rank correlation of a channel with a key
_CHANCE = 1e-3  # such an AUROC by chance, after Bonferroni's correction
BEYOND = 0.6  # AUROC of lengths, above which a finding begins: chance is 0.5
_SHUFFLES = 20
_IMAGES, _PIXELS = 2_000, 4_096


def key_told(view: View) -> Outcome:
    """Return whether a channel that never changes in a stay is the number of the stay or patient.

    Scaled or rounded numbers have the same order, so ranks are compared.
    """
    check = "no channel is the number of a stay or patient"
    chosen = view.chosen.filter(pl.col("held") > 0)
    if chosen.height < 2 * LEAST:
        return Outcome(check, "not checked", "Too few stays to compare.")
    first = chosen["first"].to_numpy()
    keys = {name: rankdata(chosen[name].to_numpy()) for name in ("unit", "subject")}
    told = []
    for name, value in view.static_channels(first):
        if len(np.unique(value)) < chosen.height // 4:
            continue
        if any(abs(np.corrcoef(rankdata(value), key)[0, 1]) >= _KEY for key in keys.values()):
            told.append(name)
    passed = f"No channel has the order of the numbers of stays or patients.{view.stays_read}"
    text = (
        f"{counted(len(told), 'channels')} in the order of the numbers of stays or patients: "
        f"{some(told)}.{view.stays_read}"
    )
    advice = "Leave these columns out: a model can remember patients by them."
    return outcome(check, len(told), passed, text, advice)


def as_features(view: View) -> tuple[np.ndarray, list[str]]:
    """Return statistics of each channel over all hours of the samples (N, F), and their names."""
    names = [f"{c.name} ({what})" for what in STATISTICS for c in view.spec.channels]
    return features(view.as_samples(view.samples, view.hours))[:, : len(names)], names


def readable(view: View) -> Outcome:
    """Return whether one channel alone separates a label almost perfectly."""
    table, names = as_features(view)
    subject = view.samples["subject"].to_numpy()
    if view.task.target == "regression":
        return _follows(table, names, view)
    judged = {n: y for n, y in view.labels.items() if enough_of_each(y, subject)}
    return _readable(table, names, judged, TELLS, "channel", view.samples_read)


def readable_images(store: Store, task: Task, seed: int) -> Outcome:
    """Return whether one pixel alone separates a class almost perfectly."""
    table = store.read(f"tasks/{task.name}.parquet")
    table = table.sample(min(_IMAGES, table.height), seed=seed)
    pixels = read_pixels(store).numpy()[table[store.spec.unit].to_numpy()].reshape(table.height, -1)
    rng = np.random.default_rng(seed)
    at = np.sort(rng.permutation(pixels.shape[1])[:_PIXELS])
    label = table[task.labels[0]].to_numpy()
    names = [str(tuple(map(int, np.unravel_index(i, store.spec.shape)))) for i in at]
    labels = {name: label == i for i, name in enumerate(task.classes)}
    judged = {n: y for n, y in labels.items() if min(y.sum(), (~y).sum()) >= LEAST}
    read = f" Read {len(label):,} images (seed {seed})." * (len(label) == _IMAGES)
    return _readable(pixels[:, at], names, judged, TELLS_IMAGE, "pixel", read)


def _readable(
    table: np.ndarray,
    names: list[str],
    labels: Mapping[str, np.ndarray],
    tells: float,
    noun: str,
    coverage: str,
) -> Outcome:
    check = f"no single {noun} tells the label"
    if not labels:
        text = f"No label has {LEAST} patients or more of both kinds, which this check needs."
        return Outcome(check, "not checked", text)
    ranks = rankdata(table, axis=0)
    num_tests = len(labels) * table.shape[1]
    told: dict[str, str] = {}  # channel → the label that it tells best
    best = (0.5, "")
    for label, y in labels.items():
        either = aurocs(ranks, y)
        best = max(best, (float(either.max()), names[int(either.argmax())]))
        for at in np.flatnonzero(either >= tells):
            name = names[at].rpartition(" (")[0] if noun == "channel" else names[at]
            if name not in told and _is_no_chance(table[:, at], y, num_tests):
                told[name] = f"{name} tells {label} (AUROC {either[at]:.3f})"
    passed = f"The best single {noun}, {best[1]}, reaches AUROC {best[0]:.3f}.{coverage}"
    text = (
        f"{counted(len(told), f'{noun}s')} {'separates' if len(told) == 1 else 'separate'} a label "
        f"almost perfectly: {some(told.values(), '; ')}.{coverage}"
    )
    return outcome(check, len(told), passed, text, ADVICE.format(noun=noun))


def aurocs(ranks: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the AUROC of each feature alone (F,), in either direction.

    ranks: (N, F) of the features among the samples
    """
    positives = int(y.sum())
    u = ranks[y].sum(0) - positives * (positives + 1) / 2
    auroc = u / (positives * (len(y) - positives))
    either: np.ndarray = np.maximum(auroc, 1 - auroc)
    return either


def _follows(table: np.ndarray, names: list[str], view: View) -> Outcome:
    """Return whether a real-valued label follows one channel almost perfectly."""
    check, label = "no single channel tells the label", view.task.labels[0]
    y = rankdata(view.samples["label 0"].to_numpy())
    if len(np.unique(view.samples["subject"])) < 2 * LEAST or np.ptp(y) == 0:
        text = f"Fewer than {2 * LEAST} patients, or all have the same {label}."
        return Outcome(check, "not checked", text)
    varied = np.ptp(table, axis=0) > 0
    ranks = rankdata(table[:, varied], axis=0)
    correlation = np.abs(np.corrcoef(y, ranks, rowvar=False)[0, 1:])
    names = [name for name, so in zip(names, varied, strict=True) if so]
    best = f"{names[int(correlation.argmax())]} ({correlation.max():.3f})"
    told = {names[i].rpartition(" (")[0] for i in np.flatnonzero(correlation >= FOLLOWS)}
    passed = f"The highest rank correlation with {label} is that of {best}.{view.samples_read}"
    text = f"{label} follows {counted(len(told), 'channels')} almost perfectly, best {best}."
    text += view.samples_read
    return outcome(check, len(told), passed, text, ADVICE.format(noun="channel"))


ADVICE = (
    "Find out when this {noun} is known. If it is recorded with or after the outcome, or computed "
    "from it, leave it out. If the label is defined by it, move the prediction time."
)


def _is_no_chance(column: np.ndarray, y: np.ndarray, num_tests: int) -> bool:
    few = int(y.sum()) * int((~y).sum()) <= 10_000
    found = mannwhitneyu(column[y], column[~y], method="exact" if few else "asymptotic")
    return bool(found.pvalue * num_tests < _CHANCE)


def from_lengths(view: View) -> Outcome:
    """Return whether a tree on lengths and padding alone predicts the labels of other patients.

    It is a finding if the interval of its AUROC lies above 0.6. Tasks of the published benchmark,
    and tasks with several samples a stay, show the hours since admission by design: there it is
    one only if lengths tell almost everything.
    """
    check = "lengths and padding do not tell the label"
    table = view.samples
    x = np.stack([table["seen"].to_numpy(), _padding(view)], axis=1)
    if (x == x[0]).all():
        text = f"All samples see {counted(int(x[0, 0]), 'hours')}, with the same padding."
        return Outcome(check, "passed", text)
    train = (table["split"] == "train").to_numpy()
    subject = table["subject"].to_numpy()
    found = {}
    for name, y in view.labels.items():
        if all(enough_of_each(y[part], subject[part]) for part in (train, ~train)):
            p = _tree(x, y[train], train)
            auroc = auroc_over(y[~train], p, subject[~train])
            found[name] = (auroc, _control(x, y, train, view.seed))
    if not found:
        text = (
            f"No label has {LEAST} patients or more of both kinds, in training and outside it, "
            "which this check needs."
        )
        return Outcome(check, "not checked", text)
    by_design = "mode" in view.store.manifest or not view.per_stay
    least = TELLS if by_design else BEYOND
    told = [n for n, (real, control) in found.items() if low(real) > max(least, control)]
    name = max(found, key=lambda n: low(found[n][0]))
    real, control = found[name]
    text = (
        f"A tree on lengths and padding alone predicts {name} with AUROC {real.value:.2f} "
        f"({low(real):.2f} to {real.high or 1:.2f}); trained on shuffled labels, {control:.2f}."
        f"{view.samples_read}"
    )
    above = " The task shows the hours since admission by design." * by_design
    known = f"{above} Report it beside the models." if low(real) > 0.5 else ""
    advice = (
        "Let all samples see the same number of hours (for an imported cohort: `hours`), and drop "
        "stays that end before, or show this score beside the models' and explain it."
    )
    return outcome(check, len(told), text + known, text, advice)


def _padding(view: View) -> np.ndarray:
    """Return how many hours at the end of each sample (N,) repeat the hour before."""
    hours = np.nan_to_num(view.hours, nan=-1e30)
    same = np.append(False, (hours[1:] == hours[:-1]).all(1))
    same[view.chosen["first"].to_numpy()] = False
    at = np.arange(len(same))
    last_new = np.maximum.accumulate(np.where(same, 0, at))
    first, seen = (view.samples[n].to_numpy() for n in ("first", "seen"))
    end = first + seen - 1
    return end - last_new[end]


def _tree(x: np.ndarray, train_y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the probabilities of a tree outside of training."""
    leaf = max(5, int(train.sum()) // 50)
    tree = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=leaf, random_state=0)
    return tree.fit(x[train], train_y).predict_proba(x[~train])[:, -1]


def _control(x: np.ndarray, y: np.ndarray, train: np.ndarray, seed: int) -> float:
    """Return the mean AUROC of trees for shuffled labels: chance, 0.5, unless a split is unfair."""
    rng = np.random.default_rng(seed)
    trees = (_tree(x, rng.permutation(y[train]), train) for _ in range(_SHUFFLES))
    return float(np.mean([roc_auc_score(y[~train], p) for p in trees]))


def auroc_over(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> Score:
    """Return the AUROC of labels and probabilities (N,), with its interval over patients."""
    return score("binary", y[:, None], p[:, None], subject, num_replicates=300)["auroc"]


def low(score: Score) -> float:
    """Return the lower end of the 95 % interval of an AUROC over patients."""
    return 0.0 if score.low is None else score.low
