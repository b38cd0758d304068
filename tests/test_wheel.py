"""An installation outside the clone: what it holds besides modules, and that it finds it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def files(folder, pattern):
    return {p.relative_to(folder) for p in folder.glob(pattern) if p.is_file()}


def test_a_wheel_holds_configurations_and_resources_and_finds_them(tmp_path):
    built = tmp_path / "build" / "lib"
    commands = ["egg_info", "--egg-base", tmp_path, "build", "--build-base", built.parent]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", *commands],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    told = subprocess.run(
        [sys.executable, "-c", "from mimic_reg.settings import CONFIGS; print(CONFIGS)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
    )
    configs = built / "mimic_reg" / "configs"
    assert told.stdout.strip() == str(configs)
    assert files(configs, "**/*") == files(ROOT / "configs", "**/*")
    for package, pattern in (
        ("mimic_reg", "*/resources/*"),
        ("mimic_reg", "*/templates/*"),
        ("pipelines", "templates/*"),
    ):
        resources = files(ROOT / package, pattern)
        assert resources
        assert files(built / package, pattern) == resources
