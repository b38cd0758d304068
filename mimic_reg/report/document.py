"""Pages that are also Markdown: a document is parts with sentences, facts, tables and figures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from mimic_reg.report.figures.drawn import Drawn
from mimic_reg.report.html import render
from mimic_reg.report.markdown import literal, table_markdown
from mimic_reg.store import atomic, make_folder


@dataclass(frozen=True)
class Grid:
    """A table of texts.

    left, wrap: columns of names, and of longer texts; all others hold numbers
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: tuple[int, ...] = ()
    wrap: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """A section: the question that it answers, and the answer.

    brief: whether it also belongs in a short version
    notes: how to read it
    figures: are only in the page; Markdown has their captions
    """

    name: str
    heading: str
    sentences: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    grids: Sequence[Grid] = ()
    figures: Sequence[Drawn] = ()
    notes: Sequence[str] = ()
    brief: bool = False


@dataclass(frozen=True)
class Document:
    """A title, a sentence below it, warnings, and parts."""

    title: str
    lead: str
    parts: Sequence[Part]
    warnings: Sequence[str] = ()


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files, name → text, into a folder and return their paths."""
    make_folder(folder)
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
    return [folder / name for name in texts]


def to_html(document: Document) -> Markup:
    """Return a page that needs no network and no script."""
    return render("document.html", document=document)


def to_markdown(document: Document) -> str:
    """Return the same as Markdown, without the figures."""
    head = [f"# {literal(document.title)}", _paragraph(document.lead)]
    head += [f"**Mind:** {literal(warning)}" for warning in document.warnings]
    found = [head, *(part_markdown(part) for part in document.parts)]
    return "\n\n".join(text for texts in found for text in texts if text) + "\n"


def part_markdown(part: Part, level: int = 2) -> list[str]:
    """Return the paragraphs of a part as Markdown."""
    facts = [f"- {literal(name)}: {literal(text)}" for name, text in part.facts.items()]
    return [
        f"{'#' * level} {literal(part.heading)}",
        *map(_paragraph, part.sentences),
        "\n".join(facts),
        *(text for grid in part.grids for text in (_paragraph(grid.caption), _grid(grid))),
        *map(_paragraph, part.notes),
    ]


def _paragraph(text: str) -> str:
    """Return a paragraph that is no heading, list or quotation, whatever it begins with."""
    return re.sub(r"^([#>+=_-]|\d+(?=[.)]))", _escaped, literal(text))


def _escaped(found: re.Match[str]) -> str:
    return f"{found[0]}\u200b" if found[0].isdigit() else f"\\{found[0]}"


def _grid(grid: Grid) -> str:
    num_left = 1
    while num_left in (*grid.left, *grid.wrap):
        num_left += 1
    return table_markdown(grid.header, grid.rows, num_left, literal)
