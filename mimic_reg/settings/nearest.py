"""The nearest known name, for errors about an unknown one."""

import difflib
from collections.abc import Iterable

MOST = 10  # names that an error lists


def suggest(name: str, allowed: Iterable[str], command: str = "") -> str:
    """Return the text that ends an error about an unknown name: the nearest one, then all.

    Of many names, it lists the nearest first, and not all.

    command: what lists all names, as `mimic-reg list methods`
    """
    allowed = sorted(allowed)
    near = difflib.get_close_matches(name, allowed, n=MOST, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    if len(allowed) <= MOST:
        return f"{hint}Allowed: {', '.join(allowed) or 'none'}."
    shown = [*near, *(each for each in allowed if each not in near)][:MOST]
    rest = f"; all {len(allowed)}: `{command}`" if command else f" and {len(allowed) - MOST} more"
    return f"{hint}Allowed: {', '.join(shown)}, …{rest}."
