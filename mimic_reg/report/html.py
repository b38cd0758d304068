"""Pages from templates. Whatever enters a template is escaped there, so no name becomes markup."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mimic_reg.report.formats import count, format_score
from mimic_reg.report.tables import format_minus_paper, format_paper


@dataclass(frozen=True)
class Section:
    """A section of a page.

    name: what links lead to; heading: the question that it answers
    """

    name: str
    heading: str
    body: Markup


def section(name: str, heading: str, **context: Any) -> Section:
    """The section whose template is called `name`."""
    return Section(name, heading, render(f"{name}.html", **context))


def render(template: str, **context: Any) -> Markup:
    """A template of this package, filled; a name that it needs and does not get is an error."""
    return Markup(_environment().get_template(template).render(context))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mimic_reg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": count,
        "distinct": _distinct,
        "paper": format_paper,
        "minus_paper": format_minus_paper,
        "score": format_score,
        "thousands": lambda number: f"{number:,}",
    }
    return environment


def _distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, in the order of its first appearance."""
    return list(dict.fromkeys(texts))
