"""Print what pyproject.toml requires, with the extras named: a layer of its own in the image."""

import sys
import tomllib
from pathlib import Path

content = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
project = content["project"]
lines = [*content["build-system"]["requires"], *project["dependencies"]]
for extra in sys.argv[1:]:
    lines += project["optional-dependencies"][extra]
sys.stdout.write("\n".join([*lines, ""]))
