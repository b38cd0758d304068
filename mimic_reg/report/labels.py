"""Unique labels: a name, with options only if two things would have the same name."""

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Named:
    """Something to be labelled, with the options in which it may differ from its namesakes.

    If a `place` has two of the same name with different options, all namesakes in the `scope` show
    the options that differ.
    """

    name: str
    scope: Hashable
    place: Hashable
    options: Mapping[str, Any] = field(hash=False)


def distinguish(items: Sequence[Named]) -> list[str]:
    """Return a label for each item, with options only if they are needed."""
    variants: dict[Hashable, dict[Hashable, set[str]]] = defaultdict(lambda: defaultdict(set))
    alike: dict[Hashable, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        key = item.scope, item.name
        variants[key][item.place].add(_text(item.options))
        alike[key].append(item.options)
    labels = []
    for item in items:
        key = item.scope, item.name
        crowded = any(len(options) > 1 for options in variants[key].values())
        shown = _differing(alike[key]) if crowded else []
        labels.append(_with_options(item, shown))
    return labels


def _differing(options: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the options in which some differ, in the order of their appearance."""
    names = dict.fromkeys(name for given in options for name in given)
    return [n for n in names if len({_text(given.get(n)) for given in options}) > 1]


def _with_options(item: Named, shown: Sequence[str]) -> str:
    short = [name.rpartition(".")[2] for name in shown]
    texts = [
        f"{name if short.count(last) > 1 else last}={format_option(item.options[name])}"
        for name, last in zip(shown, short, strict=True)
        if name in item.options
    ]
    return f"{item.name} ({', '.join(texts)})" if texts else item.name


def format_option(value: Any) -> str:
    """Return the value of an option as text."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(format_option, value))}]"
    return "null" if value is None else str(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
