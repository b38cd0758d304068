"""The nearest known name, for errors about an unknown one."""

import difflib
from collections.abc import Iterable


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return the text that ends an error about an unknown name: the nearest one, then all."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(allowed) or 'none'}."
