"""A page for each model, in Markdown: docstring, settings, file, methods with values for it.

`make pages` writes them beside the pages of the methods.
"""

import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mimic_reg import learners, models
from mimic_reg.experiments.catalogue import Entry, entries, summary_of_model
from mimic_reg.experiments.method_pages import _annotation, _default, _escaped, _text
from mimic_reg.settings import CONFIGS, find_module
from mimic_reg.settings.files import names
from mimic_reg.store import atomic


def write(folder: Path) -> None:
    """Write the pages and a list of them, `README.md`."""
    atomic.make_folders(folder)
    for name, text in pages().items():
        atomic.write_text(folder / name, text)


def pages() -> Mapping[str, str]:
    """Return file name → text: a page for each model, and their list."""
    known = entries()
    rows = [
        f"| [{name}]({name}.md) | {_escaped(summary_of_model(name))} |" for name in names("models")
    ]
    head = "# Models\n\n`make pages` writes this list and the pages from the modules.\n\n"
    listed = head + "\n".join(["| model | what it is |", "|-|-|", *rows, ""])
    return {"README.md": listed} | {f"{name}.md": _page(name, known) for name in names("models")}


def _page(name: str, methods: Iterable[Entry]) -> str:
    module = _module(name)
    file = (CONFIGS / "models" / f"{name}.yaml").read_text("utf-8").rstrip()
    sections = {
        "What it is": "\n\n".join(_text(part) for part in _doc(module).split("\n\n")),
        "Settings": _settings(module.build),
        "File": f"`configs/models/{name}.yaml`:\n\n```yaml\n{file}\n```",
        "Methods": _methods(name, methods),
    }
    body = "".join(f"\n## {title}\n\n{section}\n" for title, section in sections.items())
    return f"# {name}\n{body}"


def _settings(build: Any) -> str:
    rows = [
        f"| `{name}` | {_escaped(_annotation(p.annotation))} | {_default(p.default)} |"
        for name, p in inspect.signature(build).parameters.items()
        if name not in models.GIVEN
    ]
    table = "\n".join(["| setting | type | default |", "|-|-|-|", *rows])
    return f"{table}\n\n```text\n{_doc(build)}\n```"


def _methods(name: str, methods: Iterable[Entry]) -> str:
    """Return the methods with values for a model."""
    if name not in models.names():
        return "None: it is not a network."
    served = [e for e in methods if e.file and (not e.models or name in e.models)]
    links = ", ".join(f"[{e.name}](../methods/{e.name}.md)" for e in served)
    return f"`configs/methods` has values for it, or for all networks: {links}."


def _module(name: str) -> Any:
    return find_module((models if name in models.names() else learners).__name__, name)


def _doc(documented: Any) -> str:
    return inspect.cleandoc(documented.__doc__ or "")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
