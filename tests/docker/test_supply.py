"""What the image and `make` install: pinned by hashes, carried in a folder, and listed."""

import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
IMAGE, DEV = ("pipelines", "postgresql", "images", "mimic-iv"), ("dev", "docs")


def requirements(name):
    """Name → requirement and hashes, of a file of requirements."""
    text = (DOCKER / f"requirements{name}.txt").read_text("utf-8")
    assert "://" not in text
    assert "--index" not in text
    blocks = re.split(r"\n(?=[^\s#])", text.partition("\n")[2])
    found = {}
    for block in filter(None, map(str.strip, blocks)):
        first, *hashes = re.split(r" \\\n\s*", block)
        assert hashes, first
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first
        found[canonicalize_name(Requirement(first).name)] = Requirement(first), {*hashes}
    return found


FILES = {name: requirements(name) for name in ("", "-cuda", "-cpu", "-ray", "-dev")}
PINS = {
    canonicalize_name(Requirement(line).name): str(Requirement(line).specifier)
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
}


@pytest.mark.parametrize("name", FILES)
def test_constraints_say_every_version(name):
    assert FILES[name]
    for package, (requirement, _) in FILES[name].items():
        assert str(requirement.specifier).removesuffix("+cpu") == PINS[package], package


def closure(extras):
    """Every package that the project needs here with these extras, as the installed ones say."""
    wanted = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    for extra in extras:
        wanted += PROJECT["project"]["optional-dependencies"][extra]
    waiting, done = [Requirement(line) for line in wanted], set()
    while waiting:
        one = waiting.pop()
        key = canonicalize_name(one.name), frozenset(one.extras)
        marker_extras = ["", *one.extras]
        if key in done:
            continue
        done.add(key)
        for line in distribution(one.name).requires or ():
            need = Requirement(line)
            if not need.marker or any(need.marker.evaluate({"extra": e}) for e in marker_extras):
                waiting.append(need)
    return {name for name, _ in done}


def here(name):
    """The packages of a file that belong on this platform."""
    return {n for n, (r, _) in FILES[name].items() if not r.marker or r.marker.evaluate()}


def test_files_hold_all_that_the_project_needs_and_no_more():
    image, everything = closure(IMAGE), closure(IMAGE + DEV)
    of_torch = here("-cuda")
    assert {"torch", "torchvision"} <= of_torch
    assert image - of_torch == here("")
    assert everything - image == here("-dev")
    assert closure((*IMAGE, "ray")) - image == here("-ray")
    assert not FILES[""].keys() & {*FILES["-cuda"], *FILES["-dev"]}


def test_versions_are_ones_that_the_project_accepts():
    extras = PROJECT["project"]["optional-dependencies"].values()
    for line in [*PROJECT["project"]["dependencies"], *(x for extra in extras for x in extra)]:
        wanted = Requirement(line)
        pin = PINS[canonicalize_name(wanted.name)].removeprefix("==")
        assert wanted.specifier.contains(pin), line


def test_torch_is_the_build_of_the_variant():
    assert FILES["-cpu"].keys() == {"torch", "torchvision"} < FILES["-cuda"].keys()
    assert str(FILES["-cpu"]["torch"][0].specifier).endswith("+cpu")
    assert not FILES["-cpu"]["torch"][1] & FILES["-cuda"]["torch"][1]
    assert FILES["-cpu"]["torchvision"][1] > FILES["-cuda"]["torchvision"][1]
    linux = {"sys_platform": "linux", "platform_machine": "x86_64", "python_full_version": "3.11.2"}
    assert "nvidia-cublas" in FILES["-cuda"]
    for requirement, _ in FILES["-cuda"].values():
        assert not requirement.marker or Marker(str(requirement.marker)).evaluate(linux)


def test_image_and_make_check_hashes():
    dockerfile = (DOCKER / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    installs = re.findall(r"&& install ([^&]*requirements[^&]*)(?=&&)", dockerfile)
    assert [re.findall(r"requirements[\w${}-]*\.txt", line) for line in installs] == [
        ["requirements-${VARIANT}.txt"],
        ["requirements.txt"],
    ]
    assert re.search(r"install\(\) {[^}]*--no-deps\s+--require-hashes", dockerfile)
    assert 'org.opencontainers.image.revision="${REVISION}"' in dockerfile
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert makefile.count("install --require-hashes -r docker/requirements") == 3


# Plays `python -m pip`: notes what it is asked, and that no marker is left; "downloads" a file.
PIP = """#!/bin/sh
set -eu
echo "$@" >> "$NOTES"
[ "$3" != "$FAIL" ] || exit 1
for word; do
  case "$word" in
    */without-markers) ! grep -v '^#' "$word" | grep ';' ;;
    */source) ls "$word" >> "$NOTES" ;;
  esac
done
while [ "$1" != --dest ] && [ "$1" != --wheel-dir ]; do shift; done
echo wheel > "$2/$(wc -l < "$NOTES").whl"
"""


def wheelhouse(folder, *arguments, fail="", dev=""):
    python = folder / "python"
    python.write_text(PIP)
    python.chmod(0o755)
    given = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "TORCH_", "ARCH"))}
    given |= {"PYTHON": str(python), "NOTES": str(folder / "notes"), "FAIL": fail, "ARCH": "x86_64"}
    given["DEV"] = dev
    command = [DOCKER / "wheelhouse.sh", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("variant", "dev"), [("cuda", ""), ("cpu", "1")])
def test_the_wheelhouse_holds_wheels_requirements_and_sums(tmp_path, variant, dev):
    folder = tmp_path / "deep" / "wheels of mine"
    given = f"{folder}/"
    assert wheelhouse(tmp_path, variant, given, fail="wheel").returncode
    assert not folder.exists()
    (tmp_path / "notes").unlink()
    done = wheelhouse(tmp_path, variant, given, dev=dev)
    assert done.returncode == 0, done.stderr
    first, second, third, *_ = notes = (tmp_path / "notes").read_text().splitlines()
    index = {"cuda": "https://pypi.org/simple", "cpu": "https://download.pytorch.org/whl/cpu"}
    assert f"--index-url {index[variant]} " in first
    assert "--index-url" not in second
    for line in (first, second, *([third] if dev else [])):
        assert "--require-hashes --no-deps" in line
        assert "--platform manylinux_2_36_x86_64" in line
        assert "--python-version 3.11" in line
    assert {"pyproject.toml", "setup.py", "configs", "mimic_reg", "pipelines"} <= {*notes}
    files = {p.name for p in folder.iterdir() if p.suffix != ".whl"}
    names = {"requirements.txt", f"requirements-{variant}.txt", "SHA256SUMS"}
    assert files == (names | {"requirements-dev.txt"} if dev else names)
    for name in files - {"SHA256SUMS"}:
        assert (folder / name).read_bytes() == (DOCKER / name).read_bytes()
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=folder, check=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == (7 if dev else 5)
    again = wheelhouse(tmp_path, variant, folder)
    assert again.returncode == 2
    assert "exists; remove it" in again.stderr


@pytest.mark.parametrize("arguments", [(), ("rocm",), ("",)])
def test_the_wheelhouse_wants_a_variant(tmp_path, arguments):
    done = wheelhouse(tmp_path, *arguments)
    assert done.returncode == 2
    assert "it must be cuda or cpu" in done.stderr
    assert not (tmp_path / "notes").exists()


def test_the_list_of_components_is_valid_and_complete(monkeypatch, tmp_path):
    monkeypatch.setenv("MIMIC_REG_REVISION", "abc")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('NAME="x y"\nID=debian\nVERSION_ID="12"\n\n')
    (tmp_path / "var" / "lib" / "dpkg").mkdir(parents=True)
    (tmp_path / "var" / "lib" / "dpkg" / "status").write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n"
        "Version: 1:2.36-9+deb12u9~x\nDescription: a: b\n Version: 9\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
    )
    made = runpy.run_path(str(DOCKER / "sbom.py"))["document"](tmp_path)
    text = json.dumps(made)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    wrong = json.dumps(made | {"components": [{"type": "package", "name": "x"}]})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(wrong)
    found = {one["name"]: one for one in made["components"]}
    assert found["libc6"]["purl"] == (
        "pkg:deb/debian/libc6@1%3A2.36-9%2Bdeb12u9~x?arch=amd64&distro=debian-12"
    )
    assert "gone" not in found
    assert found["python"]["version"] == sys.version.split()[0]
    assert closure(IMAGE) <= {*map(canonicalize_name, found)}
    assert found["torch"]["version"] == distribution("torch").version
    assert found["numpy"]["licenses"]
    assert made["metadata"]["component"]["properties"][0]["value"] == "abc"
    assert runpy.run_path(str(DOCKER / "sbom.py"))["document"](tmp_path / "other")["components"]
