"""Print what an image consists of as a CycloneDX 1.6 document: docker/sbom.py > sbom.cdx.json

Components are the packages of this Python's environment, Python, and the packages of Debian.
Nothing in it depends on the time, so that equal images have equal documents.
"""

import json
import os
import platform
import site
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from urllib.parse import quote

NAME = "mimic-reg"


def component(kind: str, name: str, version: str, suffix: str = "", **more: object) -> dict:
    """Return a component; its package URL, of a `kind` such as pypi, is its reference, too."""
    url = f"pkg:{kind}/{quote(name)}@{quote(version, safe='')}{suffix}"
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url} | more


def licences(package: Distribution) -> list[dict]:
    """Return the licence that a Python package declares: an expression, a name, or nothing."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith("License :: ")]
    names = [c.rpartition(" :: ")[2] for c in classifiers]
    text = (metadata.get("License") or "").strip()
    if not names and text:
        names = [text.splitlines()[0][:100]]  # some packages put the whole text there
    return [{"license": {"name": name}} for name in sorted({*names})]


def python_packages() -> list[dict]:
    """Return the packages of this environment and of the Python that it was made from."""
    folders = [*sys.path[1:], *site.getsitepackages([sys.base_prefix])]
    return [
        component("pypi", p.name.lower().replace("_", "-"), p.version, licenses=licences(p))
        for p in distributions(path=list(dict.fromkeys(folders)))
        if p.name != NAME
    ]


def debian_packages(root: Path) -> list[dict]:
    """Return the packages that are installed according to dpkg, none on another system."""
    status = root / "var" / "lib" / "dpkg" / "status"
    if not status.exists():
        return []
    release = dict(
        line.split("=", 1)
        for line in (root / "etc" / "os-release").read_text("utf-8").splitlines()
        if "=" in line
    )
    system, version = (release.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    found = []
    for stanza in status.read_text("utf-8").strip().split("\n\n"):
        lines = [line for line in stanza.splitlines() if not line.startswith((" ", "\t"))]
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if fields["Status"].endswith(" installed"):
            suffix = f"?arch={fields['Architecture']}&distro={system}-{version}"
            found.append(
                component(f"deb/{system}", fields["Package"], fields["Version"], suffix=suffix)
            )
    return found


def document(root: Path = Path("/")) -> dict:
    """Return the whole document."""
    own = distribution(NAME)
    subject = component("pypi", NAME, own.version, licenses=licences(own)) | {"type": "application"}
    if revision := os.environ.get("MIMIC_REG_REVISION"):
        subject["properties"] = [{"name": "org.opencontainers.image.revision", "value": revision}]
    python = component("generic", "python", platform.python_version())
    everything = [python, *python_packages(), *debian_packages(root)]
    found = {one["bom-ref"]: one for one in everything}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": [found[reference] for reference in sorted(found)],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=1, ensure_ascii=True) + "\n")
