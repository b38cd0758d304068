"""URLs in the place of paths: recognise them, hide secrets in them, refuse them."""

import os
import re

from mimic_reg.errors import InputError

_URL = re.compile(r"([a-zA-Z][\w+.-]+):(?:/+|$)")  # a `Path` of a URL has a slash less
_SCHEMES = (
    *("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "wasb", "wasbs", "adl", "hdfs", "viewfs"),
    *("file", "http", "https", "ftp", "sftp", "ssh", "dbfs", "models", "runs", "mlflow-artifacts"),
)
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]")


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
    """Refuse a URL, or a path of Windows, where a path on this machine is needed.

    what: the option or argument, for the message

    Raises:
        InputError: it is one of them.
    """
    url, named = as_url(path), what and f"{what}: "
    if _DRIVE.match(os.fspath(path)):
        raise InputError(
            f"{named}{os.fspath(path)} names a drive of Windows, but mimic-reg runs on Linux. In "
            f"WSL the drive C: is /mnt/c.{_or_folder(path)}"
        )
    if url is None:
        return
    if url.startswith(("models:", "runs:")):
        raise InputError(
            f"{named}{os.fspath(path)} names a model in MLflow, but a folder on this machine is "
            f"needed. Only `mimic-reg predict --model` takes such a name.{if_folder(url)}"
        )
    raise InputError(
        f"{named}{masked(url)} is a URL, but a path on this machine is needed. Object stores lack "
        "the locks and renames that mimic-reg relies on. Name a folder on a disk or on a mounted "
        "file system, and copy from or to the object store yourself. Only a store that is read may "
        f"be a URL: --store URL, or open_store(URL) in Python.{if_folder(url)}"
    )


def if_folder(url: str) -> str:
    """Return a sentence for a URL that may be a path of this machine; "" for other URLs.

    The text before the colon is the name of no known kind of URL, or of a folder that is there.
    """
    scheme, _, rest = masked(url).partition("://")
    if scheme in _SCHEMES and not os.path.lexists(f"{scheme}:"):
        return ""
    return _or_folder(os.path.join(f"{scheme}:", rest.lstrip("/")))


def _or_folder(path: str | os.PathLike[str]) -> str:
    whole = os.path.join(os.getcwd(), path)
    return f" If a folder with a colon in its name is meant, give its whole path: {whole}"
