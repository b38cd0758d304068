"""Check for leakage, write a model card, list results on a board: as the commands do."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimic_reg import checks
from mimic_reg.api.runs import Run
from mimic_reg.api.stores import PathLike, Store, as_path
from mimic_reg.errors import InputError
from mimic_reg.report import board as boards
from mimic_reg.report import card as cards
from mimic_reg.report.document import to_markdown

if TYPE_CHECKING:
    import pandas as pd


def check(
    place: Store | Run | PathLike,
    *,
    tasks: Sequence[str] = (),
    store: PathLike | Store | None = None,
    seed: int = 0,
) -> "pd.DataFrame":
    """Look for leakage in a store or a trained run, as `mimic-reg check` does.

    Args:
        place: a store, a run, or the folder of one.
        tasks: of a store, those to check; by default all.
        store: of a run, where its store is now, if it was moved.
        seed: chooses stays and channels of a large store.

    Returns:
        A row for each check: `check`, `status` ("passed", "found" or "not checked"), `text`,
        `count`, `advice` and `task` ("" if it is about the whole store).

    Raises:
        InputError: this is neither; an unknown task; `tasks` of a run, `store` of a store.
    """
    import pandas as pd

    if isinstance(tasks, str):
        raise InputError(f"tasks is a list of names, got {tasks!r}.")
    if type(seed) is not int or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be a whole number from 0 on.")
    moved = None if store is None else _folder(store)
    outcomes = checks.check(_folder(place), list(tasks), store=moved, seed=seed)
    return pd.DataFrame([vars(outcome) for outcome in outcomes])


def card(
    run: Run | PathLike,
    out: PathLike | None = None,
    *,
    intended_use: str = "",
    store: PathLike | Store | None = None,
) -> str:
    """Return the model card of a run as Markdown, as `mimic-reg card` makes it.

    Args:
        run: a run, or its folder.
        out: a folder to write card.md and card.html into, too.
        intended_use: for whom, when and for what the model is meant.
        store: where the run's store is, if it was moved.

    Raises:
        InputError: the folder has no finished run of one task, or the store is another one.
    """
    document = cards.build(_folder(run), None if store is None else _folder(store), intended_use)
    if out is not None:
        cards.write(document, as_path(out, "card"))
    return to_markdown(document)


def board(
    works: PathLike | list[PathLike] | tuple[PathLike, ...], out: PathLike | None = None
) -> "pd.DataFrame":
    """Return all models, methods and tasks by score, as `mimic-reg board` does.

    Args:
        works: work folders, or any folders with runs.
        out: a folder to write board.csv, board.html and board.md into, too.

    Returns:
        The rows of board.csv: the best first, with budget, seeds, code, data and command.

    Raises:
        InputError: a folder is missing, or there is no run in them.
    """
    import pandas as pd

    given = works if isinstance(works, list | tuple) else [works]
    found = boards.collect_board([as_path(work, "work") for work in given])
    if out is not None:
        boards.write_board(found, as_path(out, "board"))
    return pd.DataFrame(boards.cells(found), columns=list(boards.COLUMNS))


def _folder(given: Store | Run | PathLike) -> Path:
    return given.folder if isinstance(given, Store | Run) else as_path(given, "run or store")
