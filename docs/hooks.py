"""Pages that MkDocs cannot find itself: files outside docs/, notebooks, the command line.

Pages keep the relative links that work in the repository. The site has some files in other places;
links are changed to those.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# path in the repository → path in the site
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "docker/README.md": "how_to/containers.md",
}
RESULTS = "benchmarks/results"
_SHOWN = (".md", ".png", ".json")  # files of RESULTS
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, target in _elsewhere().items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook(json.loads(file.content_string), posixpath.basename(file.src_uri))
        files.append(File.generated(config, _page(file.src_uri), content=page))
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with links to where the site has their targets."""
    targets = {f"docs/{name}": _page(name) for name in files.src_uris} | _elsewhere()
    sources = {target: source for source, target in targets.items()}
    here = page.file.src_uri
    folder = posixpath.dirname(sources[here])

    def moved(link: re.Match[str]) -> str:
        before, path, after = link.groups()
        target = targets.get(posixpath.normpath(posixpath.join(folder, path)))
        if target is None:  # MkDocs says so
            return link.group()
        return before + posixpath.relpath(target, posixpath.dirname(here)) + after

    markdown = _spaced(_LINK.sub(moved, markdown))
    return markdown.replace("{{ experiments }}", _experiments())


def _page(path: str) -> str:
    """Return the page of a file: a notebook's is Markdown."""
    return re.sub(r"\.ipynb$", ".md", path)


def _spaced(markdown: str) -> str:
    """Return text with an empty line before each list: MkDocs needs it, GitHub does not."""
    lines: list[str] = []
    code = False
    for line in markdown.split("\n"):
        code ^= line.startswith("```")
        before = lines[-1] if lines else ""
        if not code and line.startswith("- ") and re.match(r"[^\s-]", before):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _experiments() -> str:
    """Return a table of the experiments, from the headers of their files."""
    rows = []
    for path in sorted((ROOT / "configs" / "experiments").glob("*.yaml")):
        text = path.read_text("utf-8")
        title = re.search(r'^title: "(.+)"$', text, re.MULTILINE)
        cost = re.search(r"^# Cost: (.+(?:\n#   .+)*)", text, re.MULTILINE)
        shown = re.sub(r"\s*\n#\s*", " ", cost.group(1)) if cost else ""
        rows.append(f"| `{path.stem}` | {title.group(1) if title else ''} | {shown} |")
    return "\n".join(["| experiment | what | cost |", "|-|-|-|", *rows])


def _elsewhere() -> dict[str, str]:
    results = sorted(p for p in (ROOT / RESULTS).iterdir() if p.suffix in _SHOWN)
    return ELSEWHERE | {f"{RESULTS}/{p.name}": f"results/{p.name}" for p in results}


def notebook(cells: dict[str, Any], name: str) -> str:
    """Return a notebook as Markdown: text, code and stored outputs."""
    parts = []
    for cell in cells["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(_code(source))
            parts += [_output(output) for output in cell["outputs"]]
    link = f'<a href="{name}" download>Download this page as a notebook</a>'
    parts.insert(1, f"{link}. You can run it as it is.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _code(source: str) -> str:
    """Return a cell of code: commands as a terminal takes them, a file with its name."""
    if source.startswith("!"):
        return f"```sh\n{re.sub('^!', '', source, flags=re.MULTILINE)}\n```"
    if source.startswith("%%writefile "):
        first, _, text = source.partition("\n")
        file = first.split()[1]
        return f'```yaml title="{file}"\n{text}\n```'
    return f"```python\n{source}\n```"


def _output(output: dict[str, Any]) -> str:
    """Return what a cell printed, drew or returned."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![Output of the cell above](data:image/png;base64,{_joined(data['image/png'])})"
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", _joined(data["text/html"]), flags=re.DOTALL)
        html = re.sub(r"<table[^>]*>", "<table>", html)  # the site's own style
        html = re.sub(r"\n\s*\n", "\n", html).strip()  # an empty line would end it
        return f"<div>\n{html}\n</div>"
    text = _joined(output.get("text") or data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


def _joined(text: str | list[str]) -> str:
    return "".join(text).strip("\n")


def command_line() -> str:
    """Return the reference of the command line, as Typer writes it."""
    import typer
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from mimic_reg.cli import app
    from mimic_reg_pipelines.commands import add_to

    add_to(app)
    command = get_command(app)
    context = typer.Context(command, info_name="mimic-reg", help_option_names=["-h", "--help"])
    text = get_docs_for_click(obj=command, ctx=context, name="mimic-reg", title="Command line")
    for path, first_line in _commands(command, "mimic-reg"):
        name, anchor = path.split()[-1], path.replace(" ", "-")
        text = re.sub(
            rf"^\* `{name}`:.*$", f"* [`{name}`](#{anchor}): {first_line}", text, flags=re.MULTILINE
        )
    return re.sub(r"\[bold\](.*?)\[/\]", r"`\1`", text)


def _commands(group: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each command with the first line of its help, which Typer cuts at 45 characters."""
    for name, command in group.commands.items():
        yield f"{path} {name}", (command.help or "").partition("\n")[0]
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
