"""Show lists of names in docstrings as lists: paragraphs with lines such as `seed: of the fit`.

The section "Example:" becomes "Examples:", the name that mkdocstrings knows.
"""

import re
from typing import Any

from griffe import Extension, Object

_NAMED = re.compile(r"^([a-z_][\w.]*(?:, [a-z_][\w.]*)*):\s+(?=\S)")


class NamedLists(Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of a class, function or attribute."""
        if obj.docstring is not None:
            parts = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n").split("\n\n")
            obj.docstring.value = "\n\n".join(_listed(part) for part in parts)


def _listed(paragraph: str) -> str:
    lines = paragraph.split("\n")
    if not _NAMED.match(lines[0]):
        return paragraph
    return "\n".join(
        _NAMED.sub(r"- `\1`: ", line) if _NAMED.match(line) else f"    {line.strip()}"
        for line in lines
    )
