"""A page a method, in Markdown: from docstring, signature, file and what was measured.

`mimic-reg methods --pages docs/methods` writes them; the pages in the repository are those.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mimic_reg import methods
from mimic_reg.experiments.catalogue import Entry, entries, measured_costs
from mimic_reg.settings import CONFIGS, find_module
from mimic_reg.settings.files import method_called
from mimic_reg.store import atomic

MEASURED = "methods_fashion_mnist.json"
_COSTED = ("lstm", "transformer", "dnn", "cnn")

# When a kind of methods helps, for pages of methods that do not say so in a paragraph "Use it …".
_WHEN = {
    "averaging": "Use it where predictions of single fits vary, or where their uncertainty is "
    "asked for. It costs memory or time at prediction.",
    "baseline": "Train it beside every method: a method is worth what it adds to it.",
    "data": "Use it where it is known how inputs or labels may differ without another meaning, or "
    "where labels are unsure.",
    "dropout": "Use it where a network memorises its training samples: the training loss falls on "
    "while the validation score does not rise. Training takes more epochs.",
    "network": "Use it where the network itself is to be made simpler, or to be trained otherwise.",
    "optimiser": "Use it where the optimiser finds solutions that do not generalise, and look at "
    "what a step costs.",
    "penalty": "Use it where weights, gradients or outputs should stay small or smooth. Its weight "
    "depends on task and model: search it.",
    "probe": "Use it to look into a fit. It changes nothing of it, so it may join any method.",
    "pruning": "Use it where a model should become smaller, or its parts be ranked. It needs "
    "epochs after the pruning.",
    "schedule": "Use it where something should change during training. It needs fits long enough.",
    "selection": "Use it where few parameters should learn. It needs enough steps, and a threshold "
    "that fits the scale of the gradients: search it.",
    "stopping": "Tasks bring it: an experiment without it says `stopping: false`.",
    "transfer": "Use it where a model starts from a trained trunk.",
}


def write(found: Iterable[Entry], folder: Path, results: Path) -> list[Path]:
    """Write the pages and a list of them, `README.md`; return their paths.

    results: folder with what was measured
    """
    atomic.make_folders(folder)
    written = []
    for name, text in pages(found, results).items():
        atomic.write_text(folder / name, text)
        written.append(folder / name)
    return written


def pages(found: Iterable[Entry], results: Path) -> dict[str, str]:
    """Return file name → text: a page a method, and their list."""
    known = list(found)
    path = results / MEASURED
    lines = json.loads(path.read_text("utf-8"))["summary"] if path.is_file() else []
    measured = {line["method"]: line for line in lines}
    texts = {f"{entry.name}.md": _page(entry, measured.get(entry.name)) for entry in known}
    return {"README.md": _list(known), **texts}


def _list(found: Iterable[Entry]) -> str:
    rows = [
        f"| [{entry.name}]({entry.name}.md) | {entry.kind} | {_models(entry)} | "
        f"{_escaped(entry.summary)} |"
        for entry in found
    ]
    head = "# Methods\n\n`make pages` writes this list and the pages from the modules.\n\n"
    return head + "\n".join(["| method | kind | models | what it does |", "|-|-|-|-|", *rows, ""])


def _models(entry: Entry) -> str:
    return ", ".join(entry.models) or "all networks"


def _page(entry: Entry, measured: Mapping[str, Any] | None) -> str:
    docs = {name: inspect.cleandoc(_module(name).__doc__ or "") for name in entry.modules}
    does, when = [], []
    for doc in docs.values():
        for part in re.split(r"\n\n+", doc):
            if part.startswith("Use it "):
                when.append(_text(part))
            elif not part.startswith("Kind: "):
                does.append(_text(part))
    when = when or [_WHEN[k] for k in entry.kind.split(" + ") if k in _WHEN]
    sections = {
        "What it does": "\n\n".join(does),
        "When to use it": "\n\n".join(when),
        "Models": _fits(entry),
        "Options": "\n\n".join(_options(name) for name in entry.modules),
        "File": _file(entry),
        "Cost of a step": _cost(entry),
        "Paper": _escaped(entry.source) or "None is cited.",
        "What we measured": _measured(entry, measured),
    }
    body = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items() if text)
    what = "" if entry.name in entry.modules else f"{_escaped(entry.summary)}. "
    return f"# {entry.name}\n\n{what}Kind: {entry.kind}.\n{body}"


def _module(name: str) -> Any:
    return find_module(methods.package_of(name), name)


def _text(part: str) -> str:
    """Return a paragraph of a docstring as Markdown; an indented one is code."""
    lines = part.split("\n")
    if all(line.startswith("    ") for line in lines):
        return "\n".join(["```", *(line[4:] for line in lines), "```"])
    return _escaped(re.sub(r"::$", ":", part))


def _escaped(text: str) -> str:
    """Return text with what Markdown would read as marks escaped, outside backticks."""
    parts = text.split("`")
    shown = [re.sub(r"([*_|<>\[\]])", r"\\\1", p) if not i % 2 else p for i, p in enumerate(parts)]
    return "`".join(shown)


def _fits(entry: Entry) -> str:
    if entry.models:
        return f"It has values for: {_models(entry)}."
    return "All networks have the same values." if entry.file else "All networks."


def _options(name: str) -> str:
    """Return the options of a module's `build`, with what its docstring says of them."""
    build = _module(name).build
    parameters = inspect.signature(build).parameters
    if not parameters:
        return f"`{name}` has no options."
    rows = [
        f"| `{option}` | {_escaped(_annotation(p.annotation))} | {_default(p.default)} |"
        for option, p in parameters.items()
    ]
    said = (
        inspect.cleandoc(build.__doc__ or "").replace("The method; ", "").replace("The method.", "")
    )
    told = said.strip()
    text = f"\n\n```text\n{told}\n```" if told else ""
    return "\n".join([f"Of `{name}`:", "", "| option | kind | default |", "|-|-|-|", *rows]) + text


def _annotation(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", name)


def _default(default: Any) -> str:
    return "required" if default is inspect.Parameter.empty else f"`{json.dumps(default)}`"


def _file(entry: Entry) -> str:
    if not entry.file:
        return (
            "It has none in configs/methods: write it into a method's YAML, or a grid's `probes`."
        )
    path = CONFIGS / "methods" / f"{entry.name}.yaml"
    search = method_called(entry.name).search
    tried = "; ".join(f"`{key}`: {', '.join(map(str, v))}" for key, v in search.items())
    text = (
        f"`configs/methods/{entry.name}.yaml`:\n\n```yaml\n{path.read_text('utf-8').rstrip()}\n```"
    )
    return f"{text}\n\nA comparison tries {tried}." if tried else f"{text}\n\nNothing to search."


def _cost(entry: Entry) -> str:
    """Return the cost of a step over a plain one, as `benchmarks/methods.py` measured it."""
    costs = measured_costs(entry, _COSTED)
    if entry.kind == "probe":
        return "Nothing in a step; what it costs between epochs is in its description."
    if not costs:
        return "Not measured."
    rows = [f"| {model} | {cost:.2f} |" for model, cost in costs.items()]
    return "\n".join(["Times a step without it:", "", "| model | step |", "|-|-|", *rows])


def _measured(entry: Entry, line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "Nothing yet in the comparison of all methods."
    values = ", ".join(f"{key} = {value}" for key, value in line["values"].items())
    less = f", {line['difference']} against no method" if line["difference"] else ""
    return (
        f"DNN on a quarter of Fashion-MNIST{f', {values}' if values else ''}, {line['seeds']} "
        f"seeds: test accuracy {line['test']} %{less}. See "
        "[the comparison](../../benchmarks/results/methods_fashion_mnist.md)."
    )


def stale(folder: Path, results: Path) -> list[str]:
    """Return the names of pages that are not as `write` would write them, or not of a method."""
    wanted = pages(entries(), results)
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.md")}
    return sorted(n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n))
