"""A wheel in a clean environment: metadata, what it holds besides modules, and that it runs."""

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(wheel, venv):
    """Install the wheel alone; return the environment's site-packages."""
    command = ["install", "--quiet", "--no-deps", "--no-index", wheel]
    run(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", *command)
    (packages,) = venv.glob("lib/python3*/site-packages")
    return packages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "info").mkdir()
    commands = [
        "egg_info",
        "--egg-base",
        folder / "info",
        "build",
        "--build-base",
        folder / "build",
    ]
    commands += ["bdist_wheel", "--bdist-dir", folder / "bdist", "--dist-dir", folder]
    run(sys.executable, "setup.py", "--quiet", *commands, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def packages(wheel, tmp_path_factory):
    """A clean environment; what mimic-reg needs comes from the one that runs the tests."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    found = install(wheel, venv)
    (found / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return found


def files(folder, pattern):
    return {p.relative_to(folder) for p in folder.glob(pattern) if p.is_file()}


def test_a_wheel_holds_configurations_and_resources(packages):
    assert files(packages / "mimic_reg" / "configs", "**/*") == files(ROOT / "configs", "**/*")
    for package, pattern in (
        ("mimic_reg", "*/resources/*"),
        ("mimic_reg", "*/templates/*"),
        ("mimic_reg_pipelines", "templates/*"),
        ("mimic_reg", "py.typed"),
    ):
        root = ROOT if package == "mimic_reg" else ROOT / "pipelines"
        resources = files(root / package, pattern)
        assert resources
        assert files(packages / package, pattern) == resources


def test_the_installed_command_finds_them(packages, tmp_path):
    commands = packages.parents[2] / "bin"
    code = "from mimic_reg.settings import CONFIGS; print(CONFIGS)"
    told = run(commands / "python", "-c", code, cwd=tmp_path)
    assert told.strip() == str(packages / "mimic_reg" / "configs")
    listed = run(commands / "mimic-reg", "--help", cwd=tmp_path)
    assert {"extract", "train", "sweep"} <= set(listed.split())


def test_its_metadata_say_what_it_needs(packages):
    (info,) = packages.glob("mimic_reg-*.dist-info")
    metadata = Distribution.at(info).metadata
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    versions = [c.rpartition(" ")[2] for c in metadata.get_all("Classifier") if ":: 3." in c]
    assert versions == ["3.11", "3.12", "3.13"]
    table = (ROOT / "docs" / "installation.md").read_text("utf-8")
    for extra in metadata.get_all("Provides-Extra"):
        assert f"| `{extra}` |" in table, "docs/installation.md says what each extra brings"


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_newer_pythons_take_it(version, wheel, tmp_path):
    roots = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    roots += Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin")
    pythons = [root / f"python{version}" for root in roots if "shims" not in root.parts]
    python = next((path for path in pythons if path.is_file()), None)
    if python is None:
        pytest.skip(f"there is no python{version} here")
    run(python, "-m", "venv", "--without-pip", tmp_path / "venv")
    installed = install(wheel, tmp_path / "venv")
    compiler = [tmp_path / "venv" / "bin" / "python", "-W", "error", "-m", "compileall"]
    run(*compiler, "-q", "-f", installed / "mimic_reg", installed / "mimic_reg_pipelines")
