"""Names and numbers of results as texts: one way of writing them, wherever they stand."""

import re

from mimic_reg.metrics.scores import metric
from mimic_reg.settings import TrainingSize


def format_task(task: str) -> str:
    """A task's name in words."""
    text = task.replace("in_hospital", "in-hospital").replace("_", " ")
    return text[:1].upper() + text[1:]


def format_score_name(score: str) -> str:
    """A score's name in words, with its unit if it has one."""
    found = metric(score)
    return f"{found.title} ({found.unit})" if found.unit else found.title


def name_score(score: str) -> str:
    """A score's name in words, within a sentence."""
    return metric(score).title


def format_level(level: TrainingSize) -> str:
    """A training size: a share in percent, or a number of samples."""
    return f"{level.value:g} %" if level.is_share else f"{level.value:,.0f} samples"


def format_supervision(level: TrainingSize) -> str:
    """A training size within a sentence."""
    return format_level(level) + " supervision" * level.is_share


def format_p(p: float) -> str:
    """A p value with its sign of relation."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def format_score(value: float, score: str) -> str:
    """A score with as many decimals as tables give it."""
    return f"{value:.{_decimals(score)}f}"


def format_score_with_unit(value: float, score: str) -> str:
    """A score within a sentence."""
    return f"{format_score(value, score)} {metric(score).unit}".rstrip()


def format_difference(value: float, score: str) -> str:
    """A difference of scores, with its sign."""
    return f"{value:+.{_decimals(score)}f}"


def format_interval(interval: tuple[float, float], score: str) -> str:
    """The bounds of a difference, with their signs."""
    return " to ".join(format_difference(bound, score) for bound in interval)


def count(number: int, noun: str) -> str:
    """A number of things, in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def escape(text: str) -> str:
    """Text in which Markdown sees no table, tag or line."""
    text = text.replace("\n", " ").replace("|", "\\|")
    return re.sub(r"<(?=[\w/!?])", "&lt;", text)


def _decimals(score: str) -> int:
    return 2 if metric(score).unit else 4
