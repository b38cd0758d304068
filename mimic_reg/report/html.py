"""Pages from templates, which escape everything that they are given."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mimic_reg.report.formats import HIDDEN, count, file_name, format_score
from mimic_reg.report.tables import format_minus_paper, format_paper


@dataclass(frozen=True)
class Section:
    """A section of a page.

    name: the target of links; heading: the question that it answers
    """

    name: str
    heading: str
    body: Markup


def section(name: str, heading: str, **context: Any) -> Section:
    """Return the section with the template `name`."""
    return Section(name, heading, render(f"{name}.html", **context))


def render(template: str, **context: Any) -> Markup:
    """Return a template of this package, filled; a missing name is an error."""
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
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "counted": count,
        "data_uri": lambda text: f"data:text/csv;charset=utf-8,{quote(text)}",
        "distinct": lambda texts: list(dict.fromkeys(texts)),
        "join_count": _join_count,
        "minus_paper": format_minus_paper,
        "paper": format_paper,
        "score": format_score,
        "slug": lambda text: file_name(text)[:60].lower(),
        "to_csv": to_csv,
    }
    return environment


def _join_count(item: tuple[str, int | None]) -> str:
    """Return a unit and its number in words; the number may be hidden."""
    return f"{HIDDEN if item[1] is None else format(item[1], ',')} {item[0]}"


def to_csv(table: tuple[Sequence[str], Iterable[Sequence[object]]]) -> str:
    """Return (header, rows) as CSV."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table[0], *table[1]])
    return stream.getvalue()
