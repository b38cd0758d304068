"""Options and arguments that several commands share, so that they are called and told the same."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mimic_reg.cli.command import MAY_BE_URL
from mimic_reg.errors import InputError
from mimic_reg.threads import DEFAULT_THREADS, MAX_THREADS
from mimic_reg.urls import as_url, refuse_url


def complete(kind: str) -> Callable[[str], list[str]]:
    """Return what completes names in a shell: those of the files in `configs`, by kind."""

    def names(incomplete: str) -> list[str]:
        from mimic_reg.settings import CONFIGS

        found = sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))
        return [name for name in found if name.startswith(incomplete)]

    return names


def there(value: Path | list[Path] | None) -> Path | list[Path] | None:
    """Return the value of an option, if its folders exist; URLs are for the commands.

    The commands check more, but only after they loaded torch and others, which takes seconds.

    Raises:
        InputError: names the first path at which nothing is, or that cannot be read.
    """
    for path in [value] if isinstance(value, Path) else value or []:
        try:
            found = as_url(path) is not None or path.exists()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror}. Check its name, and the permissions of "
                "the folders above it."
            ) from error
        if not found:
            refuse_url(path)
            raise InputError(f"There is no folder {path}. Check its name, or make it first.")
    return value


RunArgument = Annotated[
    Path,
    typer.Argument(help="A run folder, made by `mimic-reg train`.", metavar="RUN", callback=there),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Run folders, or folders that contain them.", metavar="RUN", callback=there
    ),
]
StoreArgument = Annotated[
    Path,
    MAY_BE_URL,
    typer.Argument(
        help="A store, made by `mimic-reg extract`, or its URL.", metavar="STORE", callback=there
    ),
]
StoreOption = Annotated[
    Path,
    MAY_BE_URL,
    typer.Option(
        "--store", help="The store, or its URL (s3://…).", metavar="STORE", callback=there
    ),
]
MovedStoreOption = Annotated[
    Path | None,
    MAY_BE_URL,
    typer.Option(
        "--store",
        help="Where the run's store is now, if it was moved.",
        metavar="STORE",
        callback=there,
    ),
]
AllowMissingOption = Annotated[
    bool,
    typer.Option("--allow-missing", help="Treat channels that the data lack as not measured."),
]
StoreOut = Annotated[Path, typer.Option("--out", help="Folder of the new store.", metavar="STORE")]
SourceOption = Annotated[
    Path,
    typer.Option(
        "--source",
        help="Folder with MIMIC-III's tables, or with MIMIC-IV's in hosp/ and icu/: .csv, .csv.gz "
        "or .parquet. Or a DuckDB database that mimic-code built.",
        metavar="DIR",
    ),
]
MemoryOption = Annotated[
    str, typer.Option("--memory", help="Memory of the extraction, from 1GB on.", metavar="SIZE")
]
TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        help="A task's name (`mimic-reg list tasks`), or a YAML file.",
        metavar="TASK",
        autocompletion=complete("tasks"),
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="A model's name (`mimic-reg list models`), or a YAML file.",
        metavar="MODEL",
        autocompletion=complete("models"),
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        help="A method's name (`mimic-reg list methods`), after a family of models or alone, or "
        "a YAML file.",
        metavar="METHOD",
        autocompletion=complete("methods"),
    ),
]
SupervisionOption = Annotated[
    float,
    typer.Option(
        "--supervision", help="Share of the training samples, such as 0.25.", metavar="SHARE"
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", help="Same seed: same initial weights and batches.", metavar="N")
]
FoldOption = Annotated[
    int | None,
    typer.Option(
        "--fold",
        help="Fold to test on, of a cohort with folds; the next one validates.",
        min=1,
        metavar="N",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Replace a setting, such as training.learning_rate=3e-4, model.units=128 or "
        "itps.tau=0.1. Repeat it for more settings.",
        metavar="NAME=VALUE",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="cpu, cuda or cuda:1; by default a GPU if there is one.", metavar="DEVICE"
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads of torch. Another number changes the last digits of a result. By default "
        f"{DEFAULT_THREADS}, or the number that the run started with.",
        min=1,
        max=MAX_THREADS,
        metavar="N",
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Only print what would run, and how long it takes at most."),
]

SET_EXAMPLE = "training.learning_rate=3e-4"


def listed(texts: list[str] | None) -> list[str]:
    """Return the names of an option that takes A,B and may be repeated."""
    return [name.strip() for text in texts or [] for name in text.split(",") if name.strip()]


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Return ascending whole numbers from 2 on.

    Raises:
        InputError: the text has anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 1 for part in parts):
        raise InputError(f"{option} is {text!r}: give whole numbers from 2 on, as 50,100,500.")
    return tuple(sorted({int(part) for part in parts}))


def typed() -> str:
    """Return the command as it was typed, for a report."""
    return shlex.join(["mimic-reg", *sys.argv[1:]])
