"""Show lists of names in docstrings as lists: paragraphs with lines such as `seed: of the fit`."""

import re
from typing import Any

from griffe import Extension, Object

_NAMED = re.compile(r"^([a-zA-Z_][\w.]*(?:, [a-zA-Z_][\w.]*)*):\s+(?=\S)")
_SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Yields")  # of Google's style


class NamedLists(Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of a class, function or attribute."""
        if obj.docstring is not None:
            parts = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(_listed(part) for part in parts)


def _listed(paragraph: str) -> str:
    lines = paragraph.split("\n")
    name = _NAMED.match(lines[0])
    if name is None or name[1] in _SECTIONS:
        return paragraph
    return "\n".join(
        _NAMED.sub(r"- `\1`: ", line) if _NAMED.match(line) else f"    {line.strip()}"
        for line in lines
    )
