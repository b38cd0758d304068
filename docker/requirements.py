"""Print what pyproject.toml requires, with the extras named: a layer of its own in the image."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
build = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["build-system"]
lines = [*build["requires"], *project["dependencies"]]
for extra in sys.argv[1:]:
    lines += project["optional-dependencies"][extra]
print("\n".join(lines))
