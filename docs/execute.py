"""Execute the tutorials and store their outputs: `make tutorials`."""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent / "tutorials"
STYLES = re.compile(r"\x1b\[[0-9;]*m")  # bold and colours of a terminal


def execute(path: Path) -> None:
    """Run a notebook in an empty folder, as a reader does, and write its outputs into it."""
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            book, record_timing=False, resources={"metadata": {"path": folder}}
        ).execute()
    for cell in book.cells:
        if "outputs" in cell:
            cell.outputs = _joined(cell.outputs)
    nbformat.write(book, path)


def _joined(outputs: list[Any]) -> list[Any]:
    """Return outputs as plain text, with one for each stream, not one for each time of writing."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = STYLES.sub("", output.text).replace("\r\n", "\n")
            if joined and joined[-1].get("name") == output.name:
                joined[-1].text += output.text
                continue
        joined.append(output)
    return joined


if __name__ == "__main__":
    # `!mimic-reg` is the command of this environment
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in sys.argv[1:] or sorted(path.stem for path in TUTORIALS.glob("*.ipynb")):
        execute(TUTORIALS / f"{name}.ipynb")
