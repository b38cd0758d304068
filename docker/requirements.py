"""Write docker/requirements*.txt: the versions of constraints.txt, with the hashes of their files.

`make requirements` runs it, after a change of constraints.txt or pyproject.toml. `uv` asks PyPI for
the hashes. The files hold, for every platform and Python that mimic-reg supports:

requirements.txt         what the image needs, without torch
requirements-cuda.txt    torch as PyPI has it, with the libraries of NVIDIA that it needs
requirements-cpu.txt     torch built for CPUs, from PyTorch's own index
requirements-ray.txt     what Dockerfile.ray adds: Ray
requirements-dev.txt     what `make` adds
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ("pipelines", "postgresql", "images", "mimic-iv")
DEV = ("dev", "docs")
TORCH = re.compile(r"torch|torchvision|triton|(nvidia|cuda)-.*")

# PyTorch's index cannot be asked by `uv` for builds that PyPI does not have. These are the Linux
# wheels of https://download.pytorch.org/whl/cpu, as public lock files have them; that of torch for
# Python 3.11 on x86_64 was computed again from the file. A wrong hash would only stop a build.
CPU_BUILDS = {
    "torch==2.13.0": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # cp311 x86_64
        "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",  # cp311 aarch64
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",  # cp312 x86_64
        "6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604",  # cp312 aarch64
        "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",  # cp313 x86_64
        "0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d",  # cp313 aarch64
    ),
    "torchvision==0.28.0": (
        "1dad604dfc0177ecebe0891bd9701fe2c62ec3f7819a247be541b3fb6effee99",  # cp311 x86_64
    ),
}


def compiled(*extras: str) -> dict[str, list[str]]:
    """Return name → its lines, a requirement and its hashes, of the project with `extras`."""
    command = ["uv", "pip", "compile", "--no-config", "--quiet", "--universal"]
    command += ["--python-version", "3.11", "--default-index", "https://pypi.org/simple"]
    command += ["--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--constraints", "constraints.txt", "pyproject.toml", "-"]
    command += [f"--extra={extra}" for extra in extras]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("UV_INDEX")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        input="setuptools",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    blocks = re.split(r"\n(?=\S)", done.stdout.rstrip())
    found = {block.split("==")[0]: block.splitlines() for block in blocks}
    # a package of Windows alone: mimic-reg does not run there
    return {n: b for n, b in found.items() if not b[0].endswith("; sys_platform == 'win32' \\")}


def for_cpus(block: list[str]) -> list[str]:
    """Return torch's or torchvision's lines for CPUs alone.

    PyPI's torchvision works with either build of torch, so that its hashes stay.
    """
    requirement, *hashes = (line.removesuffix(" \\") for line in block)
    added = [f"    --hash=sha256:{digest}" for digest in CPU_BUILDS[requirement]]
    if requirement.startswith("torch=="):
        requirement, hashes = f"{requirement}+cpu", []
    return " \\\n".join([requirement, *sorted(added + hashes)]).splitlines()


def write(name: str, blocks: dict[str, list[str]]) -> None:
    """Write a file of requirements, by name."""
    lines = ["# Written by `make requirements` from constraints.txt: do not edit."]
    for _, block in sorted(blocks.items()):
        lines += block
    (ROOT / "docker" / name).write_text("\n".join([*lines, ""]), "utf-8")


def main() -> int:
    """Write the files; refuse what constraints.txt does not pin."""
    everything = compiled(*IMAGE, *DEV)
    image = {name: everything[name] for name in compiled(*IMAGE)}
    pinned = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    names = {re.sub("[-_.]+", "-", line.split("==")[0]).lower() for line in pinned if "==" in line}
    if missing := sorted(everything.keys() - names):
        wanted = "\n".join(re.split("[ ;]", everything[name][0])[0] for name in missing)
        sys.stderr.write(f"constraints.txt does not pin these; add them:\n{wanted}\n")
        return 1
    torch = {n: b for n, b in image.items() if TORCH.fullmatch(n)}
    cpu = {name: for_cpus(torch[name]) for name in ("torch", "torchvision")}
    write("requirements.txt", {n: b for n, b in image.items() if n not in torch})
    write("requirements-cuda.txt", torch)
    write("requirements-cpu.txt", cpu)
    ray = compiled(*IMAGE, "ray").keys() - image.keys()
    write("requirements-ray.txt", {n: everything[n] for n in ray})
    write("requirements-dev.txt", {n: everything[n] for n in everything.keys() - image})
    return 0


sys.exit(main())
