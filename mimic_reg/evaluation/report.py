"""report.html: one self-contained file that answers first and says what the answer rests on.

It holds scores, counts and curves over many patients; no id, no date, no row of a patient. All text
is escaped where it becomes HTML (`tag`), so a name from a configuration cannot become markup.
"""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import yaml

from mimic_reg.errors import InputError
from mimic_reg.evaluation import figures as fg
from mimic_reg.evaluation import tables as tb
from mimic_reg.evaluation.drawing import inline_svg
from mimic_reg.evaluation.drawn import Analysis, Drawn, draw
from mimic_reg.evaluation.markup import Html, details, grid, join, section, soft, tag
from mimic_reg.evaluation.results import (
    Results,
    TrialResult,
    find_stores,
    format_option,
)
from mimic_reg.evaluation.scores import Score
from mimic_reg.evaluation.tables import ScoreTable
from mimic_reg.evaluation.together import HEADING, together_section
from mimic_reg.evaluation.together import NAME as TOGETHER
from mimic_reg.storage import Store, read_json

REPORT = "report.html"


def write_report(
    results: Results,
    out: Path,
    *,
    title: str,
    stores: Sequence[Store] | None = None,
    simulated: bool | None = None,
    configuration: str | Mapping[str, Any] | None = None,
    commands: Sequence[str] = (),
    drawn: Sequence[Drawn] | None = None,
    analyses: Sequence[Analysis] = (),
) -> Path:
    """Write the report of a set of trials; where it was written.

    out:       an HTML file, or the folder that gets `report.html`
    stores:    those the trials were trained on, for the cohort flow and the curves; None: where the
               trials say they lie, if they are still there
    simulated: whether the data are simulated; None: as the stores' manifests say, if they do
    configuration: what was asked for, as YAML or plain settings; None: the trials' settings
    commands:  what to type to get the same
    drawn:     the figures, if `draw` has made them already
    analyses:  what else was looked into; their figures replace others of the same name

    Raises:
        InputError: `out` is another kind of file.
    """
    path = out if out.suffix == ".html" else out / REPORT
    if path.is_dir() or (not out.is_dir() and out.is_file() and out.suffix != ".html"):
        raise InputError(f"{out} is neither an HTML file nor a folder; name one of these.")
    stores = find_stores(results) if stores is None else stores
    is_simulated = _is_simulated(stores, simulated)
    given = _Given(results, stores, is_simulated, configuration, commands, analyses)
    analysed = {d.name for analysis in analyses for d in analysis.drawn}
    figures = draw(results, stores) if drawn is None else drawn
    figures = [d for d in figures if d.name not in analysed]
    body = join(_header(given, title), _main(given, figures), _footer(given))
    resource = files("mimic_reg.evaluation") / "resources" / REPORT
    page = Template(resource.read_text("utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page.substitute(title=html.escape(title), body=body), "utf-8")
    temporary.replace(path)
    return path


# --- the page -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """What the page is made from."""

    results: Results
    stores: Sequence[Store]
    simulated: bool | None
    configuration: str | Mapping[str, Any] | None
    commands: Sequence[str]
    analyses: Sequence[Analysis]

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        return self.results.trials


def _is_simulated(stores: Sequence[Store], given: bool | None) -> bool | None:
    if given is not None:
        return given
    recorded = [s.manifest.get("source", {}).get("simulated") for s in stores]
    return None if None in recorded or not recorded else any(recorded)


def _header(given: _Given, title: str) -> Html:
    warnings = []
    if given.simulated:
        warnings.append(
            "These patients are simulated. The numbers show that everything runs; they say nothing "
            "on medicine, on MIMIC-III, or on which method is better on real data."
        )
    if given.results.unfinished:
        warnings.append(
            f"{_count(len(given.results.unfinished), 'run')} gave no result and "
            f"{'is' if len(given.results.unfinished) == 1 else 'are'} missing from what follows; "
            "see “Without a result”."
        )
    return tag(
        "header",
        tag("h1", title),
        tag("p", _lead(given), class_="lead"),
        *(tag("p", text, class_="warning") for text in warnings),
        tag("nav", *(tag("a", text, href=f"#{name}") for name, text in _sections(given).items())),
    )


_SECTIONS = {
    "answer": "Answer",
    TOGETHER: HEADING,
    "supervision": "Scores by supervision",
    "tests": "Paired tests",
    "curves": "Curves",
    "analyses": "Analyses",
    "cohort": "Cohort",
    "missing": "Without a result",
    "rests-on": "What this rests on",
}


def _sections(given: _Given) -> dict[str, str]:
    absent = set() if given.analyses else {"analyses"}
    if together_section(given.results) is None:
        absent.add(TOGETHER)
    return {name: text for name, text in _SECTIONS.items() if name not in absent}


def _lead(given: _Given) -> str:
    trials = given.trials
    if not trials:
        return "No trial is finished."
    seeds = {(t.task, t.model, t.method, t.supervision): 0 for t in trials}
    for t in trials:
        seeds[t.task, t.model, t.method, t.supervision] += 1
    fewest, most = min(seeds.values()), max(seeds.values())
    each = str(most) if fewest == most else f"{fewest} to {most}"
    settings = "; ".join(f"{tb.format_task(t)} with {m}" for t, m in given.results.settings())
    found = sorted({t.supervision for t in trials})
    levels = ", ".join(map(tb.format_level, found)) + " supervision" * (found[-1] <= 1)
    num_methods = len({t.method for t in trials})
    prints = ", ".join(f[:12] for f in given.results.fingerprints())
    return (
        f"{_count(len(trials), 'trial')}: {_count(num_methods, 'method')} at {levels}, "
        f"{each} {'seed' if each == '1' else 'seeds'} each. {settings}. "
        f"Data: {_source(given)}; fingerprint {prints}."
    )


def _source(given: _Given) -> str:
    modes = sorted({str(s.manifest["mode"]) for s in given.stores if "mode" in s.manifest})
    mode = f", extraction mode {', '.join(modes)}" if modes else ""
    if given.simulated:
        return f"simulated patients{mode}"
    if given.simulated is None:
        return f"origin not recorded{mode}"
    return f"MIMIC-III{mode}" if modes else "not simulated"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _main(given: _Given, figures: Sequence[Drawn]) -> Html:
    tables = tb.main_tables(given.results)
    parts = [
        _answer(given, tables),
        together_section(given.results) or Html(""),
        section("supervision", "Scores by supervision", _figures(figures, "supervision")),
        _tests(tables),
        _curves(given, figures),
        *([_analyses(given.analyses)] if given.analyses else []),
        _cohort(given),
        _missing(given),
        _rests_on(given, tables),
    ]
    return tag("main", *parts)


# --- answer ---------------------------------------------------------------------------------------


def _answer(given: _Given, tables: Sequence[ScoreTable]) -> Html:
    if not tables:
        return section("answer", "Answer", tag("p", "No trial is finished: there is none yet."))
    parts: list[str] = []
    for table in tables:
        parts.append(tag("h3", tb.title(table)))
        parts.append(_verdicts(table))
        parts.append(_score_grid(table, given))
    parts.append(soft(_how_to_read(tables)))
    others = [t for t in tb.score_tables(given.results) if t.score not in {m.score for m in tables}]
    if others:
        grids = [join(tag("h3", tb.title(t)), _score_grid(t, given)) for t in others]
        parts.append(details("All other scores", *grids))
    return section("answer", "Answer", *parts)


def _verdicts(table: ScoreTable) -> Html:
    items = [tag("li", v.sentence, class_="wins" * bool(v.winner)) for v in tb.verdicts(table)]
    return tag("ul", *items, class_="answers")


def _how_to_read(tables: Sequence[ScoreTable]) -> str:
    text = (
        "Cells: mean ± standard deviation over seeds of the test score, at the epoch with the best "
        "validation score. Bold: best mean of a level; ★: it is also significantly better than "
        "every other method (two-sided paired t-test over seeds, Holm-corrected, p < 0.05, at "
        "least three pairs). Blue: methods with ITPS, and trained trunks."
    )
    if any(table.has_paper for table in tables):
        text += f" Paper: {tb.paper()['paper']}. {tb.paper()['plus_minus']}"
    return text


def _score_grid(table: ScoreTable, given: _Given) -> Html:
    verdicts = {v.supervision: v for v in tb.verdicts(table)}
    common = _common_n(table)
    rows = []
    for method in table.methods:
        cells = [_score_cell(table, method, verdicts[lv], common) for lv in table.levels]
        heading = tag("th", method, scope="row")
        rows.append(tag("tr", heading, *cells, class_="focus" * (method in table.focus)))
    header = ["method", *(tb.format_level(level) for level in table.levels)]
    what = "supervision level" if table.levels[-1] <= 1 else "training samples"
    text = f"By {what}; {_num_samples(table, given)}"
    if common:
        text += f"; n = {_count(common, 'seed')} {'a cell' if common > 1 else '(no sd)'}"
    if table.lower_is_better:
        text += "; lower is better"
    note = "" if table.has_paper else soft("The paper's figures for this table: not at hand.")
    return join(grid(f"{text}.", header, rows), note)


def _common_n(table: ScoreTable) -> int | None:
    """The number of seeds, if it is the same in every cell that has a score."""
    sizes = {len(cell.scores) for cell in table.cells.values() if cell.scores}
    return sizes.pop() if len(sizes) == 1 else None


def _num_samples(table: ScoreTable, given: _Given) -> str:
    trials = given.results.of(table.task, table.model)
    sizes = sorted({t.num_samples[table.split] for t in trials})
    return " or ".join(_count(size, f"{table.split} sample") for size in sizes)


def _score_cell(table: ScoreTable, method: str, verdict: tb.Verdict, common: int | None) -> Html:
    """Mean ± sd; n where cells differ in it; what is undefined; the paper's figure."""
    cell = table.cells.get((method, verdict.supervision))
    if cell is None:
        return tag("td", "not run", class_="soft")
    lines = []
    if cell.scores:
        summary = cell.summary
        mean = tb.format_score(summary.mean, table.score)
        sd = "" if summary.sd is None else f" ± {tb.format_score(summary.sd, table.score)}"
        best, wins = method == verdict.best, method == verdict.winner
        star = tag("span", "★ ", class_="wins-cell", title="wins by the test") if wins else ""
        lines += [star, tag("span", mean, class_="best" * best), sd]
        if common is None:
            no_sd = "" if summary.sd is not None else ", no sd"
            lines.append(tag("small", f"n = {summary.n}{no_sd}"))
    if cell.undefined:
        reasons = "; ".join(dict.fromkeys(cell.undefined.values()))
        of = "" if not cell.scores else f"{len(cell.undefined)} of {_total(cell)} "
        lines.append(tag("small", f"{of}undefined: {reasons}", class_="long"))
    if table.has_paper:
        lines.append(tag("small", f"paper: {tb.format_paper(cell, table.score)}"))
    return tag("td", *lines)


def _total(cell: tb.Cell) -> int:
    return len(cell.scores) + len(cell.undefined)


# --- tests ----------------------------------------------------------------------------------------


def _tests(tables: Sequence[ScoreTable]) -> Html:
    parts: list[str] = [
        soft(
            "Difference: method minus baseline, paired by seed (equal initial weights, batches and "
            "training samples), with its 95 % interval. d: Cohen's effect size of the differences. "
            "p: two-sided paired t-test, Holm-corrected over the baselines of one method at one "
            "level; nothing is corrected across levels or tables."
        )
    ]
    for table in tables:
        found = tb.comparisons(table)
        if found:
            parts += [tag("h3", tb.title(table)), *_test_grids(table, found)]
    if len(parts) == 1:
        parts = [tag("p", "No table has two methods: there is nothing to compare.")]
    return section("tests", "Paired tests", *parts)


def _test_grids(table: ScoreTable, found: Sequence[tb.Compared]) -> list[Html]:
    """A grid for each method in focus, then all comparisons in full; the latter alone otherwise."""
    if not table.focus:
        return [_full_grid(table, found)]
    grids = [_focus_grid(table, method, found) for method in table.focus]
    return [*grids, details("All comparisons in full", _full_grid(table, found))]


def _focus_grid(table: ScoreTable, method: str, found: Sequence[tb.Compared]) -> Html:
    cells = {(c.baseline, c.supervision): c for c in found if c.method == method}
    baselines = [m for m in table.methods if any(name == m for name, _ in cells)]
    sizes = {c.result.n for c in cells.values()}
    rows = []
    for baseline in baselines:
        compared = [cells.get((baseline, level)) for level in table.levels]
        cells_of_row = [_test_cell(c, table.score, show_n=len(sizes) > 1) for c in compared]
        rows.append(tag("tr", tag("th", baseline, scope="row"), *cells_of_row))
    header = ["against", *map(tb.format_level, table.levels)]
    n = f"; n = {_count(sizes.pop(), 'pair')} a cell" if len(sizes) == 1 else ""
    return grid(f"{method} against each baseline, by supervision level{n}.", header, rows)


def _test_cell(compared: tb.Compared | None, score: str, *, show_n: bool) -> Html:
    if compared is None:
        return tag("td", "-")
    n, difference, interval, effect, _, _, conclusion = tb.format_comparison(compared, score)
    result = compared.result
    notes = [f"n = {n}"] if show_n else []
    if result.p_holm is None:
        notes.append(conclusion)
    else:
        notes += [f"d {effect}"] * (effect != "-") + [tb.format_p(result.p_holm)]
    kind = conclusion if conclusion in ("better", "worse") else ""
    first = tag("span", f"{kind} {difference}".strip(), class_=kind)
    between = "" if interval == "-" else tag("small", interval)
    return tag("td", first, between, tag("small", ", ".join(notes)))


def _full_grid(table: ScoreTable, found: Sequence[tb.Compared]) -> Html:
    rows = [
        [c.method, c.baseline, tb.format_level(c.supervision), *_full_row(c, table.score)]
        for c in found
    ]
    header = ["method", "against", "level", *tb.COMPARISON_COLUMNS]
    caption = "Every method against every baseline."
    return grid(caption, header, rows, left=(1,), wrap=(len(header) - 1,))


def _full_row(compared: tb.Compared, score: str) -> list[str]:
    *numbers, conclusion = tb.format_comparison(compared, score)
    kind = conclusion if conclusion in ("better", "worse") else ""
    return [*numbers, tag("span", conclusion, class_=kind)]


# --- figures --------------------------------------------------------------------------------------


def _figures(figures: Sequence[Drawn], wanted: str) -> Html:
    chosen = [d for d in figures if d.section == wanted]
    if not chosen:
        return tag("p", "There is nothing to draw.")
    return tag("div", *map(_figure, chosen), class_="figures")


def _figure(drawn: Drawn) -> Html:
    svg = inline_svg(drawn.figure, drawn.name)
    described = svg.replace(
        "<svg ", f'<svg role="img" aria-label="{html.escape(drawn.caption)}" ', 1
    )
    return tag("figure", Html(described), tag("figcaption", drawn.caption))


def _curves(given: _Given, figures: Sequence[Drawn]) -> Html:
    parts: list[str] = []
    if any(d.section == "selection" for d in figures):
        parts += [tag("h3", "Selected parameters"), _figures(figures, "selection")]
    parts += [tag("h3", "Training"), _figures(figures, "training")]
    if any(fg.has_curves(t.task) for t in given.trials):
        parts += [tag("h3", "ROC and calibration"), _prediction_curves(given, figures)]
    return section("curves", "Curves", *parts)


def _prediction_curves(given: _Given, figures: Sequence[Drawn]) -> Html:
    if any(d.section == "curves" for d in figures):
        return _figures(figures, "curves")
    if not set(given.results.fingerprints()) & {s.manifest["fingerprint"] for s in given.stores}:
        return tag("p", "Not drawn: the store with the labels is not at hand.")
    return tag(
        "p",
        f"Not drawn: below {fg.MIN_COUNT} test samples of either class, or in a bin, a curve would "
        "show single patients; or the predictions are gone.",
    )


# --- analyses -------------------------------------------------------------------------------------


def _analyses(analyses: Sequence[Analysis]) -> Html:
    parts: list[str] = []
    for analysis in analyses:
        parts.append(tag("h3", analysis.title))
        if analysis.drawn:
            parts.append(_figures(analysis.drawn, "analysis"))
        for where, rows in analysis.tables.items():
            parts.append(grid(f"{analysis.title}: {where}.", analysis.columns, rows))
        parts.append(soft(analysis.note))
    return section("analyses", "Analyses", *parts)


# --- cohort ---------------------------------------------------------------------------------------


def _cohort(given: _Given) -> Html:
    parts: list[str] = []
    for store in given.stores:
        if "audit.json" not in store.manifest["files"]:
            continue
        audit = read_json(store.path("audit.json"))
        if "cohort_flow" in audit:
            units = ("stays", "admissions", "subjects")
            flow = [[s["step"], *(f"{s[u]:,}" for u in units)] for s in audit["cohort_flow"]]
            parts.append(
                grid("Cohort flow: what is left after each step.", ["after", *units], flow)
            )
        tasks = {t.task for t in given.trials}
        rows = _sample_rows({n: s for n, s in audit.get("samples", {}).items() if n in tasks})
        header = ["task", "split", "samples", "stays", "subjects", "positives"]
        parts.append(grid("Samples of the tasks.", header, rows, left=(1,)))
    if not parts:
        parts = [tag("p", "The store is not at hand, so its cohort flow is not shown.")]
    return section("cohort", "Cohort", *parts)


def _sample_rows(samples: Mapping[str, Any]) -> list[list[str]]:
    names = {"val": "validation"}
    return [
        [
            tb.format_task(task),
            names.get(split, split),
            *(f"{counts[unit]:,}" if unit in counts else "-" for unit in _UNITS),
            _positives(counts),
        ]
        for task, splits in samples.items()
        for split, counts in splits.items()
    ]


_UNITS = ("samples", "stays", "subjects")


def _positives(counts: Mapping[str, Any]) -> str:
    positives = counts.get("positives")
    if isinstance(positives, Mapping):
        if len(positives) > 1:
            fewest, most = min(positives.values()), max(positives.values())
            return f"{fewest:,} to {most:,} a label"
        positives = next(iter(positives.values()), None)
    if positives is None:
        return "-"
    share = f" ({100 * positives / counts['samples']:.1f} %)" if counts["samples"] else ""
    return f"{positives:,}{share}"


# --- what is missing ------------------------------------------------------------------------------


def _missing(given: _Given) -> Html:
    parts: list[str] = []
    if given.results.unfinished:
        rows = [[u.name, u.why] for u in given.results.unfinished]
        parts.append(grid("Runs without a result.", ["run", "why"], rows, wrap=(1,)))
    else:
        parts.append(tag("p", "Every run has a result."))
    undefined = _undefined(given.trials)
    if undefined:
        parts.append(grid("Undefined scores.", ["score", "why"], undefined, wrap=(1,)))
    else:
        parts.append(tag("p", "Every score is defined."))
    return section("missing", "Without a result", *parts)


def _undefined(trials: Sequence[TrialResult]) -> list[tuple[str, str]]:
    """Scores that are undefined, or leave labels out, with the reason and in how many trials."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    asked: Counter[tuple[str, str, str]] = Counter()
    for trial in trials:
        for split, scores in trial.scores.items():
            for name, score in scores.items():
                asked[trial.task, split, name] += 1
                if score.reason:
                    how = "undefined: " if score.value is None else ""
                    found[trial.task, split, name, how + score.reason] += 1
    return [
        (
            f"{tb.format_task(task)}, {split} {tb.format_score_name(name)}",
            f"{reason} ({count} of {_count(asked[task, split, name], 'trial')})",
        )
        for (task, split, name, reason), count in found.items()
    ]


# --- what it rests on -----------------------------------------------------------------------------


def _rests_on(given: _Given, tables: Sequence[ScoreTable]) -> Html:
    parts = [_facts(given), tag("h3", "How to get the same"), _reproduce(given)]
    if given.trials:
        parts.append(details("Methods and their options", _options(given.trials)))
        parts.append(details("Every trial, with bootstrap intervals", *_trials(given, tables)))
        parts.append(details("Configuration", tag("pre", _configuration(given))))
    parts.append(details("The paper's figures that stand beside nothing", _unplaced()))
    return section("rests-on", "What this rests on", *parts)


def _facts(given: _Given) -> Html:
    facts: dict[str, list[str]] = {}
    for trial in given.trials:
        facts.setdefault("device", []).append(trial.device)
        for name, version in trial.versions.items():
            facts.setdefault(_VERSIONS.get(name, name), []).append(version or "none")
    facts["data fingerprint"] = given.results.fingerprints()
    for store in given.stores:
        source = store.manifest.get("source", {}).get("fingerprint")
        facts.setdefault("source fingerprint", []).extend([source] if source else [])
        for name, what in store.manifest.get("corrections", {}).items():
            facts.setdefault("corrections", []).append(f"{name}: {what}")
    rows = [
        join(tag("dt", name), tag("dd", ", ".join(dict.fromkeys(values))))
        for name, values in facts.items()
        if values
    ]
    mixed = len({t.versions.get("code") for t in given.trials}) > 1
    text = "The trials were made by different versions of the code; see below."
    return join(tag("p", text, class_="warning") if mixed else "", tag("dl", *rows))


_VERSIONS = {"code": "code (git)", "mimic_reg": "mimic-reg"}


def _reproduce(given: _Given) -> Html:
    text = tag(
        "p",
        "A trial's identity is the hash of its settings and of its data's fingerprint. The same "
        "code, settings, data and versions give the same scores, on a CPU bit for bit; finished "
        "trials are not trained again.",
    )
    if not given.commands:
        return text
    return join(text, tag("pre", tag("code", "\n".join(given.commands))))


def _options(trials: Sequence[TrialResult]) -> Html:
    rows: dict[tuple[str, ...], None] = {}
    for trial in trials:
        entries = list(trial.settings["regularisers"])
        if together := trial.settings.get("together"):
            entries.insert(0, together["strategy"])
        options = [
            f"{name}: " + (", ".join(f"{k} {format_option(v)}" for k, v in given.items()) or "-")
            for entry in entries
            for name, given in entry.items()
        ]
        where = tb.format_task(trial.task), trial.model
        rows.setdefault((trial.method, *where, "; ".join(options)))
    header = ["method", "task", "model", "options"]
    return grid("Methods and their options.", header, list(rows), left=(1, 2), wrap=(3,))


def _trials(given: _Given, tables: Sequence[ScoreTable]) -> list[Html]:
    return [_trial_grid(given.results.of(t.task, t.model), t) for t in tables]


def _trial_grid(trials: Sequence[TrialResult], table: ScoreTable) -> Html:
    rows = [
        [
            t.method,
            tb.format_level(t.supervision),
            str(t.seed),
            str(t.best_epoch),
            *(_score_text(t.scores.get(s, {}).get(table.score), table.score) for s in _SPLITS),
            t.name,
        ]
        for t in trials
    ]
    name = tb.format_score_name(table.score)
    header = ["method", "level", "seed", "best epoch", f"validation {name}", f"test {name}", "run"]
    caption = f"{tb.title(table)}: every trial, with 95 % bootstrap intervals over subjects."
    return grid(caption, header, rows, left=(6,), wrap=(4, 5))


_SPLITS = ("validation", "test")


def _score_text(score: Score | None, name: str) -> str:
    if score is None:
        return "-"
    if score.value is None:
        return f"undefined: {score.reason}"
    text = tb.format_score(score.value, name)
    if score.low is None or score.high is None:
        return text
    return f"{text} [{tb.format_score(score.low, name)}, {tb.format_score(score.high, name)}]"


def _configuration(given: _Given) -> str:
    """What was asked for; or one trial of each method and model, but for level and seed."""
    if isinstance(given.configuration, str):
        return given.configuration
    if given.configuration is not None:
        return _yaml(given.configuration)
    examples: dict[str, None] = {}
    for trial in given.trials:
        settings = {k: v for k, v in trial.settings.items() if k not in ("supervision", "seed")}
        examples.setdefault(_yaml(settings))
    return "---\n".join(examples)


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)


def _unplaced() -> Html:
    rows = [
        [
            f"Table {figure['table']}",
            figure["method"] or "method not quoted",
            tb.format_level(figure["supervision"]) if figure["supervision"] else "not quoted",
            f"{figure['value']:.4f}" + (f" ± {figure['sd']:.4f}" if figure["sd"] else ""),
            figure["remark"],
        ]
        for figure in tb.paper()["unplaced"]
    ]
    header = ["where", "method", "level", "figure", "remark"]
    caption = (
        f"{tb.paper()['paper']}: figures quoted without the task, model, method or level they are "
        "of. All other figures of the paper's tables on MIMIC-III are not at hand."
    )
    return grid(caption, header, rows, left=(1, 2), wrap=(4,))


def _footer(given: _Given) -> Html:
    text = (
        "Made by mimic-reg. This page holds scores, counts and curves only, nothing of a patient."
    )
    return tag("footer", tag("p", text))
