"""The source of models and methods from outside the package, as a hash: a part of a trial's id.

Of a class in a module it is that module, with what it imports of its own package and of other
modules that are not installed. Of a class in a script or notebook it is the class statement, with
the functions, classes and plain values that it uses. Docstrings, comments and spaces do not count.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import linecache
import symtable
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.settings.plugins import MAIN, load_plugin

_PACKAGE = __name__.partition(".")[0]
_INSTALLED = tuple(sysconfig.get_path(p) for p in ("stdlib", "platstdlib", "purelib", "platlib"))
_seen: dict[str, tuple[ModuleSpec | None, str]] = {}  # module → as it was imported, and its text


def hash_source(package: str, name: str) -> str:
    """Return the hash of the source that a plugin's name stands for.

    Raises:
        InputError: there is no source, or it has changed since it was imported.
    """
    parts = {place: _shape(part) for place, part in sorted(_parts(package, name).items())}
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def imports_of(package: str, name: str) -> set[str]:
    """Return the modules of mimic-reg that a plugin's source imports or uses."""
    trees = [part for part in _parts(package, name).values() if isinstance(part, ast.AST)]
    named = {n for tree in trees for node in ast.walk(tree) for n in imported(node)}
    built = load_plugin(package, name).build
    named |= {base.__module__ for base in (built.__mro__ if isinstance(built, type) else ())}
    return {n for n in named if n.startswith(f"{_PACKAGE}.")}


def plain_text(tree: ast.Module) -> str:
    """Return a module's text without docstrings and comments; the tree is changed."""
    return ast.unparse(_without_docstrings(tree))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return tree


def _shape(part: Any) -> Any:
    """Return a tree as plain lists, without what is empty: the same in all versions of Python."""
    if isinstance(part, ast.AST):
        fields = [[name, _shape(value)] for name, value in ast.iter_fields(part)]
        return [type(part).__name__, *(f for f in fields if f[1] not in (None, []))]
    if isinstance(part, list):
        return [_shape(each) for each in part]
    return None if part is None else repr(part)


def _is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is only a text: a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def imported(node: ast.AST) -> list[str]:
    """Return what an import statement may name: modules, and names that may be modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


_Parts = dict[str, ast.AST | str]


def _parts(package: str, name: str) -> _Parts:
    """Return place → tree without docstrings, or a value's text, of everything that counts."""
    module = load_plugin(package, name)
    found: _Parts = {}
    if module.__name__ == MAIN:
        _add_object(module.build, name, found)
    else:
        _add_module(module.__name__, name, found, top=module.__name__.partition(".")[0])
    return found


# --- modules --------------------------------------------------------------------------------------


def _add_module(place: str, what: str, found: _Parts, top: str | None = None) -> None:
    """Add a module and those that it imports, as far as they belong to `top` or are local.

    Raises:
        InputError: it has no source, or another one than when it was first used.
    """
    if place in found:
        return
    path = _file(place)
    if path is None:
        raise InputError(
            f"{what}: the source of the module {place} is not available, so a run cannot record "
            "what it was trained with. Use a module with a .py file."
        )
    text = path.read_text("utf-8")
    spec = getattr(sys.modules.get(place), "__spec__", None)
    if _seen.setdefault(place, (spec, text)) != (spec, text):
        if _seen[place][0] is spec:
            raise InputError(
                f"{what}: {path} has changed since it was imported. Restart Python, or reload the "
                f"module: importlib.reload({place})."
            )
        _seen[place] = spec, text
    tree = ast.parse(text)
    names = {n for node in ast.walk(tree) for n in _absolute(node, place, path)}
    found[place] = _without_docstrings(tree)
    for name in sorted(names):
        if _counts(name, top):
            _add_module(name, what, found, top)


def _absolute(node: ast.AST, place: str, path: Path) -> Iterator[str]:
    """Yield the modules that an import statement names, relative ones resolved."""
    if isinstance(node, ast.ImportFrom) and node.level:
        above = place.split(".")
        kept = above[: len(above) - node.level + (path.name == "__init__.py")]
        base = ".".join([*kept, *([node.module] if node.module else [])])
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
    else:
        yield from imported(node)


def _counts(place: str, top: str | None) -> bool:
    """Return whether a module is a part of the source: of the same package, or not installed."""
    first = place.partition(".")[0]
    if first == _PACKAGE or first in sys.stdlib_module_names:
        return False
    path = _file(place)
    return path is not None and (first == top or not str(path.resolve()).startswith(_INSTALLED))


def _file(place: str) -> Path | None:
    """Return a module's file; None if it is no module or has no source."""
    try:
        module = sys.modules.get(place)
        spec = module.__spec__ if module else importlib.util.find_spec(place)
    except (ImportError, AttributeError, ValueError):
        return None
    path = Path(spec.origin) if spec and spec.origin else None
    return path if path and path.suffix == ".py" and path.is_file() else None


# --- scripts and notebooks ------------------------------------------------------------------------


def _add_object(thing: Any, what: str, found: _Parts) -> None:
    """Add a class or function of the running script or notebook, with what it uses."""
    if thing.__qualname__ in found:
        return
    tree = _without_docstrings(ast.Module([_statement(thing, what)], []))
    found[thing.__qualname__] = tree
    there = vars(sys.modules[MAIN])
    for name in sorted(_globals(symtable.symtable(ast.unparse(tree), what, "exec"))):
        if name in there and name != thing.__name__:
            _add_used(name, there[name], what, found)


def _add_used(name: str, thing: Any, what: str, found: _Parts) -> None:
    """Add a global of the notebook that the source uses.

    Raises:
        InputError: its value cannot be recorded.
    """
    is_module = isinstance(thing, ModuleType)
    place = thing.__name__ if is_module else getattr(thing, "__module__", None)
    if isinstance(thing, type | FunctionType) and place == MAIN:
        _add_object(thing, what, found)
    elif is_module or (callable(thing) and hasattr(thing, "__name__") and place != MAIN):
        if place and _counts(place, None):
            _add_module(place, what, found)
    elif _is_plain(thing):
        found[name] = repr(thing)
    elif getattr(type(thing), "__module__", "") not in ("typing", "types"):  # an alias of types
        raise InputError(
            f"{what} uses {name!r} of the notebook, a {type(thing).__name__}, whose value a run "
            "cannot record. Make it an option of __init__, or a number or text."
        )


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.dumps(value))
    except (TypeError, ValueError):
        return False


def _globals(table: symtable.SymbolTable) -> set[str]:
    """Return the names that a statement takes from the module around it."""
    outermost = table.get_type() == "module"
    names = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_global() or (outermost and symbol.is_referenced())
    }
    return names.union(*map(_globals, table.get_children()))


def _statement(thing: Any, what: str) -> ast.stmt:
    """Return the statement that defines a class or function.

    Raises:
        InputError: there is no source: it was typed into a prompt, say.
    """
    for code in _codes(thing):
        text = "".join(linecache.getlines(code.co_filename))
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == thing.__name__:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if first <= code.co_firstlineno <= (node.end_lineno or 0):
                    return node
    raise InputError(
        f"{what}: the source of {thing.__qualname__} is not available, so a run cannot record what "
        "it was trained with. Define it in a notebook cell, a script or a module, with a method "
        "or more of its own."
    )


def _codes(thing: Any) -> Iterator[Any]:
    """Yield the code of a function, or of the functions that a class defines itself."""
    members: Iterable[Any] = vars(thing).values() if isinstance(thing, type) else (thing,)
    for member in members:
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
        code = getattr(function, "__code__", None)
        if code is not None and code.co_qualname.startswith(thing.__qualname__):
            yield code
