"""The commands that judge finished runs, `report`, `claims`, `card` and `board`: parse, print."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.cli.checks import print_findings
from mimic_reg.cli.options import MovedStoreOption, RunArgument, RunsArgument, listed, there
from mimic_reg.console import err, out, say
from mimic_reg.errors import InputError


def report(
    runs: RunsArgument,
    page: Annotated[
        Path, typer.Option("--out", help="The HTML file to write.", metavar="FILE")
    ] = Path("report.html"),
    title: Annotated[
        str, typer.Option(help="Its title.", metavar="TEXT")
    ] = "Regularisers compared",
    focus: Annotated[
        str | None,
        typer.Option(
            help="The method to compare with all others; by default the best.", metavar="METHOD"
        ),
    ] = None,
    analyse: Annotated[
        list[str] | None,
        typer.Option(
            help="Analyses to add: names as in `mimic-reg analyse --help`.", metavar="A,B"
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="The smallest difference of scores that matters; by default 0.01, of a length of "
            "stay 1 hour.",
            metavar="DIFFERENCE",
        ),
    ] = None,
) -> Any:
    """Compare finished runs in one HTML page: tables, intervals, paired tests, curves.

    A sentence for each comparison says what may be concluded, and how many more seeds or test
    patients a difference that matters would need.

    The page needs no network and no script, and has no data of a single patient.
    """
    from mimic_reg.report import analyses, results
    from mimic_reg.report import page as reporting
    from mimic_reg.report.evidence import weigh
    from mimic_reg.report.frames import evidence_frame, scores_frame
    from mimic_reg.report.leakage import check_results
    from mimic_reg.report.markdown import to_markdown
    from mimic_reg.report.tables import main_tables
    from mimic_reg.settings import suggest
    from mimic_reg.store import disk_errors

    found = results.collect(runs, focus=focus)
    if focus is not None and found.trials and not any(t.in_focus for t in found.trials):
        raise InputError(f"No run has the method {focus!r}. {suggest(focus, found.methods())}")
    stores = results.find_stores(found)
    weighed = weigh(found, stores, delta)
    added = analyses.analyse_all(listed(analyse), found)
    leaks = check_results(found, stores)
    with disk_errors(page.parent):
        written = reporting.write_report(
            *(found, page),
            title=title,
            stores=stores,
            analyses=added,
            weighed=weighed,
            leakage=leaks,
        )
    print_findings(leaks)
    say(to_markdown(found, weighed))
    for analysis in added:
        if not analysis.drawn:
            say(f"Not drawn: {analysis.title}. {analysis.note}")
    say(f"Wrote {written}.")
    return {
        "report": written,
        "scores": scores_frame(main_tables(found)).to_dicts(),
        "comparisons": evidence_frame(weighed).to_dicts(),
    }


def claims(runs: RunsArgument) -> Any:
    """Check each claim of the paper on ITPS against finished runs.

    A claim is reproduced, is not reproduced, or cannot be tested with these runs, and why. The
    rules were written before the runs: docs/claims.md.
    """
    from mimic_reg.report import claims as judging
    from mimic_reg.report import results

    found = results.collect(runs)
    lines = judging.judge(found)
    for number, line in enumerate(lines, 1):
        claim = f"{line.claim} ({line.where})"
        out.print(f"[bold]{number}. {line.verdict}[/]: {escape(claim)}", soft_wrap=True)
        if line.shown is not None:
            say(f"   {judging.in_words(line.shown)}")
        say(f"   {line.why}")
        if line.runs:
            say(f"   Runs: {judging.shortened(line.runs)}")
    for unfinished in found.unfinished:
        say(f"Left out: {unfinished.name}: {unfinished.why}", err)
    return judging.as_plain(lines)


def card(
    run: RunArgument,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of card.md and card.html.", metavar="DIR"),
    ] = None,
    intended_use: Annotated[
        str,
        typer.Option(help="For whom, when and for what the model is meant.", metavar="TEXT"),
    ] = "",
    store: MovedStoreOption = None,
) -> Any:
    """Write the model card of a run: data, use, scores, calibration, subgroups, cost, limits.

    It also says which items of TRIPOD+AI it answers. Groups of fewer than ten patients are not
    shown. Without --out, the card is printed as Markdown.
    """
    from mimic_reg.report import card as cards
    from mimic_reg.report.document import to_markdown
    from mimic_reg.store import disk_errors

    document = cards.build(run, store, intended_use)
    if folder is None:
        text = to_markdown(document)
        say(text)
        return {"markdown": text}
    with disk_errors(folder):
        files = cards.write(document, folder)
    say(f"Wrote {' and '.join(map(str, files))}.")
    return {"files": files}


def board(
    works: Annotated[
        list[Path],
        typer.Argument(
            help="Work folders, or any folders with runs.", metavar="WORK", callback=there
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of board.csv, board.html and board.md.", metavar="DIR"),
    ] = None,
) -> Any:
    """List models, methods and tasks by score: with budget, seeds, versions and commands.

    It is made again from the run folders alone. Runs of points that a search did not choose are
    left out. Rows with different tuning budgets are not ranked. Without --out, the board is printed
    as Markdown.
    """
    from mimic_reg.report import board as boards
    from mimic_reg.report.document import to_markdown
    from mimic_reg.store import disk_errors

    found = boards.collect_board(works)
    if folder is None:
        say(to_markdown(boards.document(found)))
        return {"rows": found.rows}
    with disk_errors(folder):
        files = boards.write_board(found, folder)
    say(f"Wrote {', '.join(map(str, files))}.")
    return {"rows": found.rows, "files": files}
