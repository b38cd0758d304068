"""How every command is built: shared options, its result as JSON, the groups of `--help`."""

import functools
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import ArgumentInfo, ParameterInfo

from mimic_reg.console import err, out, progress, verbosity
from mimic_reg.errors import InputError, InterruptionError
from mimic_reg.urls import as_url, refuse_url

MAY_BE_URL = "a store that is read"  # annotation of an option or argument

_SECTIONS = {
    "Data": "synthesize extract verify check cohort import-cohort import-meds import-benchmark "
    "import-images export-cohort export-meds export-benchmark prune",
    "One model": "train evaluate predict pretrain finetune",
    "Experiments": "run sweep tune compare",
    "Results": "runs show report board card claims analyse ui",
    "Names": "list",
}


class Commands(TyperGroup):
    """Commands in sections; Ctrl-C ends them with a sentence (typer alone ends in silence)."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise InterruptionError(
                "Interrupted. Finished work is kept: run the same command again to continue."
            ) from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with their whole first sentence."""
        sections = {title: names.split() for title, names in _SECTIONS.items()}
        listed = {name for names in sections.values() for name in names}
        rest = [name for name in self.list_commands(ctx) if name not in listed]
        width = max(len(name) for name in self.commands)
        for title, names in {**sections, "Commands": rest}.items():
            found = [self.commands[name] for name in names if name in self.commands]
            rows = [
                (str(command.name).ljust(width), command.get_short_help_str(limit=1000))
                for command in found
                if not command.hidden
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Command(TyperCommand):
    """A command whose help shows the names of arguments without types and braces."""

    def get_help(self, ctx: Any) -> str:
        """Return the help."""
        return re.sub(r" <[^<>]+>", lambda found: " " * len(found[0]), super().get_help(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the line of usage."""
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]


@dataclass(frozen=True)
class Result:
    """A result and an exit code, which may be 1 although the command ran to its end."""

    content: Any
    exit_code: int


_Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print the result and errors only."),
]
_Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print more: resolved settings, where an error arose."),
]
_Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")
]


def add(app: typer.Typer, *functions: Callable[..., Any], as_json: bool = True) -> None:
    """Add commands, with the options that all of them have.

    functions: what a command does; it prints its result, and returns it for --json
    as_json:   whether they have a result
    """
    for function in functions:
        app.command(cls=Command)(_with_options(function, as_json))


def _with_options(function: Callable[..., Any], as_json: bool) -> Callable[..., None]:
    @functools.wraps(function)
    def command(
        *, quiet: bool = False, verbose: bool = False, json_: bool = False, **given: Any
    ) -> None:
        if quiet and verbose:
            raise InputError("--quiet and --verbose exclude each other. Give one of them.")
        verbosity.quiet, verbosity.verbose, out.quiet = quiet, verbose, json_
        try:
            result = function(**_on_this_machine(given, signature))
        finally:
            out.quiet = False
        code = 0
        if isinstance(result, Result):
            result, code = result.content, result.exit_code
        if json_:
            typer.echo(json.dumps(plain(result), indent=1, ensure_ascii=False))
        raise typer.Exit(code)

    kinds = {"quiet": _Quiet, "verbose": _Verbose} | ({"json_": _Json} if as_json else {})
    signature = inspect.signature(function, eval_str=True)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in kinds.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    parameters = [*own, *shared]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=None
    )
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _on_this_machine(given: dict[str, Any], signature: inspect.Signature) -> dict[str, Any]:
    """Return the options with the copy of a store in place of its URL; refuse other URLs.

    Raises:
        InputError: a URL or a path of Windows where a path is needed, before anything is created.
        MimicRegError: a store that cannot be copied.
    """
    urls = {}
    for name, value in given.items():
        metadata = get_args(signature.parameters[name].annotation)
        for path in value if isinstance(value, list) else [value]:
            if not isinstance(path, Path):
                continue
            is_url = as_url(path) is not None
            if not (is_url and MAY_BE_URL in metadata):
                refuse_url(path, _shown(name, metadata))
            if is_url:
                urls[name] = path
    if urls:
        from mimic_reg.store.remote import locate

        with progress(err) as shown:
            given = given | {name: locate(path, shown) for name, path in urls.items()}
    return given


def _shown(name: str, metadata: tuple[Any, ...]) -> str:
    """Return an option or an argument as `--help` shows it."""
    for kind in metadata:
        if isinstance(kind, ParameterInfo):
            if isinstance(kind, ArgumentInfo):
                return str(kind.metavar)
            names = (kind.default, *(kind.param_decls or ()))  # typer has the first as default
            given = (str(n) for n in names if str(n).startswith("--"))
            return next(given, f"--{name.replace('_', '-')}")
    return name


def plain(value: Any) -> Any:
    """Return a result as JSON holds it: records as mappings, paths as text, no NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
