"""Names and numbers of results as text."""

from mimic_reg.metrics.scores import Score, metric
from mimic_reg.settings import TrainingSize

HIDDEN = "\u2013"  # instead of a number that is not shown


def format_task(task: str) -> str:
    """Return a task's name in words."""
    text = task.replace("in_hospital", "in-hospital").replace("_", " ")
    return text[:1].upper() + text[1:]


def format_score_name(score: str) -> str:
    """Return a score's name in words."""
    return metric(score).title


def format_level(level: TrainingSize) -> str:
    """Return a training size: a share in percent, or a number of samples."""
    return f"{level.value:g} %" if level.is_share else f"{level.value:,.0f} samples"


def format_repeat(seed: int, fold: int | None) -> str:
    """Return what a trial differs in from others of its settings: its seed, and fold if any."""
    return f"seed {seed}" + ("" if fold is None else f", fold {fold}")


def format_supervision(level: TrainingSize) -> str:
    """Return a training size for a sentence, such as "25 % supervision"."""
    return format_level(level) + " supervision" * level.is_share


def format_p(p: float | None, *, sign: bool = True) -> str:
    """Return a p value, such as "p = 0.012"; without `sign`, "0.012"; "-" if there is none."""
    if p is None:
        return "-"
    text = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    return text if sign else text.removeprefix("p ").removeprefix("= ")


def format_score(value: float, score: str) -> str:
    """Return a score with the decimals of tables."""
    return f"{value:.{_decimals(score)}f}"


def format_estimate(value: float, low: float | None, high: float | None, score: str) -> str:
    """Return a score with its interval, if it has one."""
    text = format_score(value, score)
    if low is None or high is None:
        return text
    return f"{text} ({format_score(low, score)} to {format_score(high, score)})"


def format_scored(found: Score | None, score: str) -> str:
    """Return a score with its interval, why it is undefined, or "-" if it is not known."""
    if found is None:
        return "-"
    if found.value is None:
        return f"undefined: {found.reason}"
    return format_estimate(found.value, found.low, found.high, score)


def format_difference(value: float, score: str) -> str:
    """Return a difference of scores with its sign."""
    return f"{value:+.{_decimals(score)}f}"


def format_interval(interval: tuple[float, float], score: str) -> str:
    """Return the bounds of a difference with their signs."""
    return " to ".join(format_difference(bound, score) for bound in interval)


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def file_name(text: str) -> str:
    """Return the text as a part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in text).strip("_")


def _decimals(score: str) -> int:
    return 3 if "regression" in metric(score).targets else 4
