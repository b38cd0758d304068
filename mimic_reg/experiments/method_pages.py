"""A page for each method in Markdown, from docstring, signature, file and measurements.

`mimic-reg methods --pages docs/methods` writes the pages that are in the repository.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mimic_reg import methods
from mimic_reg.experiments.catalogue import Entry, measured_costs
from mimic_reg.settings import CONFIGS, find_module
from mimic_reg.settings.files import method_called
from mimic_reg.store import atomic

MEASURED = "methods_fashion_mnist.json"
_COSTED = ("lstm", "transformer", "dnn", "cnn")

# When a kind of method helps, for methods without a paragraph "Use it …" in their docstring.
_WHEN = {
    "averaging": "Use it if the predictions of single fits vary, or if you need their uncertainty. "
    "It costs memory or time at prediction.",
    "baseline": "Train it with every comparison: the value of a method is its difference from it.",
    "data": "Use it if you know changes of inputs or labels that do not change their meaning, or "
    "if labels are uncertain.",
    "dropout": "Use it if a network memorises its training samples: the training loss keeps "
    "falling, but the validation score does not rise. Training takes more epochs.",
    "network": "Use it to make the network itself simpler, or to train it differently.",
    "optimiser": "Use it if the optimiser finds solutions that do not generalise. Check the cost "
    "of a step.",
    "penalty": "Use it if weights, gradients or outputs should be small or smooth. Its best weight "
    "depends on task and model: search it.",
    "probe": "Use it to observe a fit. It does not change the fit, so it can join any method.",
    "pruning": "Use it to make a model smaller, or to rank its parts. It needs epochs after the "
    "pruning.",
    "schedule": "Use it if something should change during training. It needs enough epochs.",
    "selection": "Use it if only few parameters should learn. It needs enough steps, and a "
    "threshold that fits the scale of the gradients: search it.",
    "stopping": "Tasks include it. An experiment without it has `stopping: false`.",
    "transfer": "Use it for a model that starts from a trained trunk.",
}


def write(found: Iterable[Entry], folder: Path, results: Path) -> list[Path]:
    """Write the pages and a list of them, `README.md`, and return their paths.

    results: folder of the measurements
    """
    atomic.make_folders(folder)
    written = []
    for name, text in pages(found, results).items():
        atomic.write_text(folder / name, text)
        written.append(folder / name)
    return written


def pages(found: Iterable[Entry], results: Path) -> dict[str, str]:
    """Return file name → text: a page for each method, and their list."""
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
        "Paper": _escaped(entry.source) or "No paper is cited.",
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
    """Return text with Markdown's special characters escaped, except in backticks."""
    parts = text.split("`")
    shown = [re.sub(r"([*_|<>\[\]])", r"\\\1", p) if not i % 2 else p for i, p in enumerate(parts)]
    return "`".join(shown)


def _fits(entry: Entry) -> str:
    if entry.models:
        return f"It has values for: {_models(entry)}."
    return "All networks, with the same values." if entry.file else "All networks."


def _options(name: str) -> str:
    """Return the options of a module's `build`, with their descriptions in its docstring."""
    build = _module(name).build
    parameters = inspect.signature(build).parameters
    if not parameters:
        return f"`{name}` has no options."
    rows = [
        f"| `{option}` | {_escaped(_annotation(p.annotation))} | {_default(p.default)} |"
        for option, p in parameters.items()
    ]
    doc = inspect.cleandoc(build.__doc__ or "")
    doc = doc.replace("The method; ", "").replace("The method.", "").strip()
    text = f"\n\n```text\n{doc}\n```" if doc else ""
    return "\n".join([f"Of `{name}`:", "", "| option | kind | default |", "|-|-|-|", *rows]) + text


def _annotation(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", name)


def _default(default: Any) -> str:
    return "required" if default is inspect.Parameter.empty else f"`{json.dumps(default)}`"


def _file(entry: Entry) -> str:
    if not entry.file:
        return (
            "It has no file in configs/methods: add it to a method's YAML, or to a grid's `probes`."
        )
    path = CONFIGS / "methods" / f"{entry.name}.yaml"
    search = method_called(entry.name).search
    tried = "; ".join(f"`{key}`: {', '.join(map(str, v))}" for key, v in search.items())
    text = (
        f"`configs/methods/{entry.name}.yaml`:\n\n```yaml\n{path.read_text('utf-8').rstrip()}\n```"
    )
    return (
        f"{text}\n\nA comparison tries {tried}."
        if tried
        else f"{text}\n\nThere is nothing to search."
    )


def _cost(entry: Entry) -> str:
    """Return the cost of a step relative to a plain one, from `benchmarks/methods.py`."""
    costs = measured_costs(entry, _COSTED)
    if entry.kind == "probe":
        return "A step costs nothing; the description has the cost between epochs."
    if not costs:
        return "Not measured."
    rows = [f"| {model} | {cost:.2f} |" for model, cost in costs.items()]
    return "\n".join(["Relative to a step without it:", "", "| model | step |", "|-|-|", *rows])


def _measured(entry: Entry, line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "It is not yet in the comparison of all methods."
    values = ", ".join(f"{key} = {value}" for key, value in line["values"].items())
    less = f", {line['difference']} against no method" if line["difference"] else ""
    return (
        f"DNN on a quarter of Fashion-MNIST{f', {values}' if values else ''}, {line['seeds']} "
        f"seeds: test accuracy {line['test']} %{less}. See "
        "[the comparison](../../benchmarks/results/methods_fashion_mnist.md)."
    )
