"""The documentation builds strictly and without a network; its links and commands exist."""

import json
import os
import re
import subprocess
import sys

import typer

from mimic_reg.experiments import model_pages
from tests.docs.pages import BLOCK, DOCS, ROOT

# what a browser loads by itself when it opens a page, from another machine
LOADED = re.compile(
    r"""<(?:script|img|iframe|link rel="(?:stylesheet|preconnect|icon)")[^>]*"""
    r"""(?:src|href)=["']?(?:https?:)?//|@import\s*["'(]?\s*(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//"""
)


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    files = [p for p in (tmp_path / "site").rglob("*") if p.suffix in (".html", ".css")]
    assert len(files) > 80
    assert {str(p): found for p in files if (found := LOADED.findall(p.read_text("utf-8")))} == {}


def test_the_pages_of_the_models_are_up_to_date():
    written = {path.name: path.read_text("utf-8") for path in (DOCS / "models").glob("*.md")}
    assert written == model_pages.pages(), "run `make pages`"


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_on_every_page_exists_with_its_options():
    from typer.main import get_command

    from mimic_reg.cli import app
    from mimic_reg_pipelines.commands import add_to

    plugin = typer.Typer()
    add_to(plugin)
    commands = get_command(app).commands | get_command(plugin).commands
    found = 0
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", *(ROOT / "benchmarks").rglob("*.md")]
    pages += DOCS.rglob("*.ipynb")
    for page in pages:
        text = page.read_text("utf-8")
        if page.suffix == ".ipynb":
            cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
            text = "\n".join(re.sub(r"^!(?=mimic-reg)", "    ", c, flags=re.M) for c in cells)
        text = text.replace("\\\n", " ")
        code = "".join(b["text"] for b in BLOCK.finditer(text) if b["kind"] == "sh")
        code += "".join(re.findall(r"^ {4}(mimic-reg .+\n)", text, re.MULTILINE))
        for line in re.findall(r"^mimic-reg ([^#\n]+)", code, re.MULTILINE):
            name, *words = line.split()
            command = commands.get(name)
            while hasattr(command, "commands"):
                command = command.commands.get(words.pop(0))
            assert command, f"{page}: mimic-reg {line}"
            known = {"--help"}.union(*(p.opts + p.secondary_opts for p in command.params))
            used = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert used <= known, f"{page}: mimic-reg {line}"
            found += 1
    assert found > 50


def test_the_optimiser_example_runs():
    blocks = BLOCK.finditer((DOCS / "how_to" / "train.md").read_text("utf-8"))
    examples = [block["text"] for block in blocks if block["kind"] == "python"]
    assert len(examples) == 1
    exec(examples[0], {})
