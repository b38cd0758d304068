"""URLs in the place of paths: recognise them, hide secrets in them, refuse them."""

import os
import re

from mimic_reg.errors import InputError

_URL = re.compile(r"([a-zA-Z][\w+.-]+):(?:/+|$)")  # a `Path` of a URL has a slash less


def as_url(path: str | os.PathLike[str]) -> str | None:
    """Return the URL that is given as a path, with all its slashes; None for a path."""
    text = os.fspath(path)
    found = _URL.match(text)
    if found is None:
        return None
    scheme = found[1].lower()
    return f"{scheme}:{'///' if scheme == 'file' else '//'}{text[found.end() :].rstrip('/')}"


def masked(url: str) -> str:
    """Return a URL for messages, without what may be secret: user, password, query."""
    shown = re.sub(r"^([\w+.-]+:/+).*@", r"\1…@", url, flags=re.DOTALL)  # they may have / and ?
    place, mark, _ = shown.partition("?")
    return place + (mark and "?…")


def refuse_url(path: str | os.PathLike[str], what: str = "") -> None:
    """Refuse a URL where a path on this machine is needed.

    what: the option or argument, for the message

    Raises:
        InputError: it is a URL.
    """
    url = as_url(path)
    if url is not None and url.startswith(("models:", "runs:")):
        raise InputError(
            f"{what and what + ': '}{os.fspath(path)} names a model in MLflow, but a folder on "
            "this machine is needed. Only `mimic-reg predict --model` takes such a name."
        )
    if url is not None:
        raise InputError(
            f"{what and what + ': '}{masked(url)} is a URL, but a path on this machine is needed. "
            "Object stores lack the locks and renames that mimic-reg relies on. Name a folder on a "
            "disk or on a mounted file system, and copy from or to the object store yourself. Only "
            "a store that is read may be a URL: --store URL, or open_store(URL) in Python."
        )
