"""The command `mimic-reg methods`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mimic_reg.console import out, table


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(methods)


def methods(
    like: Annotated[
        str | None,
        typer.Option(
            help="Only those of this kind, or of the kind of this method, as dropout.",
            metavar="KIND",
        ),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option(help="Write a page a method into this folder, as Markdown.", metavar="DIR"),
    ] = None,
    results: Annotated[
        Path,
        typer.Option(help="What was measured, for the pages.", metavar="DIR"),
    ] = Path("benchmarks/results"),
) -> None:
    """List all methods: kind, models, what a step costs over a plain one, what each does.

    Names with a file are for `--method`; the others are parts of a method's own YAML, probes, or
    what tasks bring.
    """
    from mimic_reg.experiments import catalogue, method_pages

    found = catalogue.entries(like)
    if pages is not None:
        written = method_pages.write(found, pages, results)
        out.print(f"Wrote {len(written)} pages into {escape(str(pages))}.")
        return
    rows = [
        [
            entry.name if entry.file else f"({entry.name})",
            entry.kind,
            ", ".join(entry.models) or "all networks",
            escape(entry.summary),
            escape(entry.source),
        ]
        for entry in found
    ]
    columns = ["method", "kind", "models", "what it does", "source"]
    listed = table("Methods", columns, rows)
    for column in listed.columns:
        column.justify, column.overflow = "left", "fold"
    out.print(listed)
    out.print("In parentheses: without a file in configs/methods, so no name for --method.")
