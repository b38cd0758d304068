"""The commands `mimic-reg list …`: the names that other commands take."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.cli import command
from mimic_reg.console import out, say, table

app = typer.Typer(no_args_is_help=True, help="List tasks, models, methods or experiments.")


def tasks(
    store: Annotated[
        Path | None,
        command.MAY_BE_URL,
        typer.Option(help="List the tasks of this store, with its samples.", metavar="STORE"),
    ] = None,
) -> Any:
    """List the tasks, for --task."""
    if store is None:
        found = _described("tasks")
        found.pop("default")  # the settings of tasks that have no file
        _print("Tasks", found)
        return found
    from mimic_reg.cli.audit import SPLIT_NAMES
    from mimic_reg.experiments.costs import sizes
    from mimic_reg.store import Store

    opened = Store.open(store)
    counts = sizes(opened)
    content: dict[str, dict[str, Any]] = {}
    for name in opened.spec.task_names:
        task = opened.spec.task(name)
        samples = {s: counts.get((name, s), 0) for s in ("train", "val", "test")}
        samples = {SPLIT_NAMES.get(s, s): count for s, count in samples.items()}
        content[name] = {"target": task.target, "score": task.score, "samples": samples}
    rows = [[n, c["target"], c["score"], *c["samples"].values()] for n, c in content.items()]
    columns = ["task", "target", "score", "train", "validation", "test"]
    out.print(table(f"Tasks of {store}", columns, rows))
    return content


def models() -> Any:
    """List the models, for --model."""
    from mimic_reg.experiments.catalogue import summary_of_model

    found = {
        name: f"{summary_of_model(name)}. {text}" for name, text in _described("models").items()
    }
    _print("Models", found)
    return found


def experiments() -> Any:
    """List the experiments, for --config."""
    from mimic_reg.settings import CONFIGS, load_yaml

    files = sorted((CONFIGS / "experiments").glob("*.yaml"))
    found = {path.stem: str(load_yaml(path)["title"]) for path in files}
    _print("Experiments", found)
    return found


def methods(
    like: Annotated[
        str | None,
        typer.Option(
            help="Only methods of this kind, or of the kind of this method.", metavar="KIND"
        ),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option(help="Write a Markdown page for each method into DIR.", metavar="DIR"),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Measurements to show in the pages.", metavar="DIR")
    ] = Path("benchmarks/results"),
) -> Any:
    """List the methods, for --method: kind, models, effect, source.

    Names in parentheses have no file in configs/methods, so --method does not take them: they are
    parts of other methods, probes, or come with a task.
    """
    from mimic_reg.experiments import catalogue

    found = catalogue.entries(like)
    if pages is not None:
        from mimic_reg.experiments import method_pages

        written = method_pages.write(found, pages, results)
        say(f"Wrote {len(written)} pages into {pages}.")
        return written
    networks = tuple(catalogue.network_names())
    rows = [
        [
            entry.name if entry.file else f"({entry.name})",
            entry.kind,
            "all networks" if entry.models in ((), networks) else ", ".join(entry.models),
            escape(f"{entry.summary} ({entry.source})" if entry.source else entry.summary),
        ]
        for entry in found
    ]
    drawn = table("Methods", ["method", "kind", "models", "what it does"], rows)
    drawn.box, drawn.columns[0].no_wrap = None, True
    drawn.columns[1].max_width = drawn.columns[2].max_width = 12
    for column in drawn.columns:
        column.justify = "left"
    out.print(drawn)
    return found


command.add(app, tasks, models, methods, experiments)


def _described(kind: str) -> dict[str, str]:
    """Return name → the comment that its file begins with."""
    from mimic_reg.settings import CONFIGS

    found = {}
    for path in sorted((CONFIGS / kind).glob("*.yaml")):
        lines = path.read_text("utf-8").splitlines()
        end = next(i for i, line in enumerate([*lines, ""]) if not line.startswith("#"))
        found[path.stem] = " ".join(line.removeprefix("#").strip() for line in lines[:end])
    return found


def _print(title: str, found: dict[str, str]) -> None:
    drawn = table(title, ["name", ""], [[name, escape(text)] for name, text in found.items()])
    drawn.box, drawn.columns[1].justify = None, "left"
    out.print(drawn)
