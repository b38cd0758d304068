"""A page for each model, in Markdown: docstring, settings, file, methods with values for it.

`mimic-reg methods --pages docs` writes them beside the pages of the methods.
"""

import inspect
from collections.abc import Iterable
from typing import Any

from mimic_reg import learners, models
from mimic_reg.experiments.catalogue import Entry
from mimic_reg.experiments.method_pages import options, paragraph
from mimic_reg.settings import CONFIGS, find_module
from mimic_reg.settings.files import names


def pages(methods: Iterable[Entry]) -> dict[str, str]:
    """Return file name → text: a page for each model, and their list, `README.md`.

    methods: all methods
    """
    known = list(methods)
    rows = [f"| [{name}]({name}.md) | {_summary(name)} |" for name in names("models")]
    head = "# Models\n\n`make pages` writes this list and the pages from the modules.\n\n"
    listed = head + "\n".join(["| model | what it is |", "|-|-|", *rows, ""])
    return {"README.md": listed} | {f"{name}.md": _page(name, known) for name in names("models")}


def _summary(name: str) -> str:
    """Return the first line of a model's docstring."""
    return paragraph(_doc(name).partition("\n")[0].rstrip("."))


def _page(name: str, methods: Iterable[Entry]) -> str:
    file = (CONFIGS / "models" / f"{name}.yaml").read_text("utf-8").rstrip()
    sections = {
        "What it is": "\n\n".join(paragraph(part) for part in _doc(name).split("\n\n")),
        "Settings": options(name, _module(name).build, models.GIVEN),
        "File": f"`configs/models/{name}.yaml`:\n\n```yaml\n{file}\n```",
        "Methods": _methods(name, methods),
    }
    body = "".join(f"\n## {title}\n\n{section}\n" for title, section in sections.items())
    return f"# {name}\n{body}"


def _methods(name: str, methods: Iterable[Entry]) -> str:
    """Return the methods with values for a model."""
    if name not in models.names():
        return "None: it is not a network."
    served = [e for e in methods if e.file and (not e.models or name in e.models)]
    links = ", ".join(f"[{e.name}](../methods/{e.name}.md)" for e in served)
    return f"`configs/methods` has values for it, or for all networks: {links}."


def _module(name: str) -> Any:
    return find_module((models if name in models.names() else learners).__name__, name)


def _doc(name: str) -> str:
    return inspect.cleandoc(_module(name).__doc__ or "")
