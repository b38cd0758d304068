"""A Markdown page for each method, from its docstring, options, file and measurements.

`mimic-reg list methods --pages docs/methods` writes them; the pages in the repository are those.
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
_COMPARED = "dnn"  # the model of that comparison
_COSTED = ("lstm", "transformer", "dnn", "cnn", "causal_lstm")
# kind → why none of its methods is in that comparison
_APART = {
    "probe": "It only measures a fit, so there is nothing to compare.",
    "stopping": "All fits of the comparison of methods have it.",
    "transfer": "It needs a trained trunk, and no fit of the comparison of methods has one.",
}


def write(found: Iterable[Entry], folder: Path, results: Path) -> list[Path]:
    """Write the pages and a list of them, `README.md`, and return their paths.

    results: folder with the measurements
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
            elif not part.startswith(("Kind: ", "Paper: ", "Shapes: ")):
                does.append(_text(part))
    sections = {
        "What it does": "\n\n".join(does),
        "When to use it": "\n\n".join(when),
        "Models": _fits(entry),
        "Options": "\n\n".join(_options(name) for name in entry.modules),
        "File": _file(entry),
        "Cost of a step": _cost(entry),
        "Paper": "\n".join(f"- {_escaped(work)}." for work in entry.sources),
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
    return _escaped(re.sub(r":\n- ", ":\n\n- ", re.sub(r"::$", ":", part)))  # a list after a line


def _escaped(text: str) -> str:
    """Return text with Markdown's special characters escaped, except in backticks."""
    parts = text.split("`")
    shown = [re.sub(r"([*_|<>\[\]])", r"\\\1", p) if not i % 2 else p for i, p in enumerate(parts)]
    return "`".join(shown)


def _fits(entry: Entry) -> str:
    if entry.models:
        return f"`configs/methods/{entry.name}.yaml` has values for: {_models(entry)}."
    return "All networks, with the same values." if entry.file else "All networks."


def _options(name: str) -> str:
    """Return a table of the options of a module's `build`."""
    build = _module(name).build
    parameters = inspect.signature(build).parameters
    if not parameters:
        return f"`{name}` has no options."
    meanings = meanings_of(build)
    rows = [
        f"| `{option}` | {_escaped(_annotation(p.annotation))} | {_default(p.default)} | "
        f"{_escaped(meanings.get(option, ''))} |"
        for option, p in parameters.items()
    ]
    head = [f"Options of `{name}`:", "", "| option | type | default | meaning |", "|-|-|-|-|"]
    return "\n".join([*head, *rows])


def meanings_of(build: Any) -> dict[str, str]:
    """Return option → its line "option: meaning" in the docstring of a `build`."""
    doc = re.sub(r"\n +", " ", inspect.cleandoc(build.__doc__ or ""))
    return dict(re.findall(r"^(\w+): +(.+)$", doc, re.MULTILINE))


def _annotation(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    name = re.sub(r"\b(?:typing|collections\.abc)\.", "", name)
    name = re.sub(r"Literal\[([^]]*)\]", lambda found: found[1].replace("'", ""), name)
    name = re.sub(r"Sequence\[([^]]*)\]", r"list of \1", name)
    return name.replace(" | ", " or ").replace("None", "null")


def _default(default: Any) -> str:
    return "required" if default is inspect.Parameter.empty else f"`{json.dumps(default)}`"


def _file(entry: Entry) -> str:
    if not entry.file:
        place = "an experiment's `probes`" if entry.kind == "probe" else "a method's YAML"
        return f"It has no file in configs/methods: add it to {place}."
    path = CONFIGS / "methods" / f"{entry.name}.yaml"
    search = method_called(entry.name).search
    tried = "; ".join(f"`{key}`: {', '.join(map(str, v))}" for key, v in search.items())
    text = (
        f"`configs/methods/{entry.name}.yaml`:\n\n```yaml\n{path.read_text('utf-8').rstrip()}\n```"
    )
    return f"{text}\n\n" + (f"A comparison tries {tried}." if tried else "Nothing to search.")


def _cost(entry: Entry) -> str:
    """Return the cost of a step relative to a plain one, as `benchmarks/methods.py` measured it."""
    costs = measured_costs(entry, _COSTED)
    if entry.kind in _APART:
        between = "The description says what it costs between epochs."
        return f"A step costs nothing more. {between if entry.kind == 'probe' else ''}".rstrip()
    if not costs:
        return "Not measured."
    rows = [f"| {model} | {cost:.2f} |" for model, cost in costs.items()]
    head = (
        "Time of a training step, relative to a step without the method, in the first or the last "
        "epoch, whichever takes longer:"
    )
    return "\n".join([head, "", "| model | step |", "|-|-|", *rows])


def _measured(entry: Entry, line: Mapping[str, Any] | None) -> str:
    if line is None:
        return why_not_compared(entry) or "It is not in the comparison of all methods yet."
    values = ", ".join(f"{key} = {value}" for key, value in line["values"].items())
    less = f", {line['difference']} against no method" if line["difference"] else ""
    return (
        f"DNN on a quarter of Fashion-MNIST{f', {values}' if values else ''}, {line['seeds']} "
        f"seeds: test accuracy {line['test']} %{less}. See "
        "[the comparison](../../benchmarks/results/methods_fashion_mnist.md)."
    )


def why_not_compared(entry: Entry) -> str | None:
    """Return why a method cannot be in the comparison of all methods; None: it can."""
    if not entry.models or _COMPARED in entry.models:
        return _APART.get(entry.kind)
    return (
        f"It is for other models ({_models(entry)}), and the comparison of all methods is on the "
        f"{_COMPARED}."
    )
