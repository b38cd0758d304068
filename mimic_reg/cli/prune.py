"""The command `prune`: remove what can be computed again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mimic_reg.cli.options import there
from mimic_reg.console import say


def prune(
    folder: Annotated[
        Path, typer.Argument(help="A store or a work folder.", metavar="DIR", callback=there)
    ],
) -> Any:
    """Remove the arrays that processes share on this machine, from a store or a work folder.

    A later training makes those that it needs again. What runs now is not disturbed.
    """
    from mimic_reg.samples.shared import prune as remove

    removed = remove(folder)
    say(f"Removed {removed / 1e9:,.2f} GB of shared arrays from {folder}.")
    return {"folder": folder, "bytes": removed}
