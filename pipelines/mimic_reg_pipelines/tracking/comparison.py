"""The page on which MLflow compares a sweep: a shared view of an experiment, opened by a link.

MLflow keeps such a view as JSON in a tag of the experiment. The format is not documented; ours
follows the pages of MLflow 3.17. Where MLflow cannot decode a view, its link
opens the runs. Where MLflow decodes a view and does not understand it, the page stays empty; so
`mimic-reg ui` also prints the link without the view. A view names groups of runs and no single run,
so its size does not grow with the seeds. Each sweep has one view for each task, named like the
sweep, and one for each of its levels. They are written anew when the sweep goes on.
"""

import json
import re
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mlflow.tracking import MlflowClient

from mimic_reg.report.formats import format_level, format_score_name
from mimic_reg.settings import TrainingSize
from mimic_reg_pipelines.tracking.client import connect
from mimic_reg_pipelines.tracking.mlflow_runs import (
    METHOD_LEVEL,
    MODEL_METHOD_LEVEL,
    NOTE,
    check_name,
    experiment_id,
    group_tags,
    sweep_filter,
)
from mimic_reg_pipelines.tracking.tracked_run import AT_BEST, SECTIONS

VIEW = "mlflow.sharedViewState."
_PACKED = "deflate;"  # begins a state that MLflow's pages compressed
_OURS = "mlflow.mimic-reg.sweep."  # begins a tag with the time of a sweep; MLflow hides "mlflow."
_TRAINING = "workflowType=machine_learning"  # else MLflow opens in its mode for language models
PAGES = "mimic-reg/"  # where `mimic-reg ui` shows results, seen from MLflow's pages
_START = "Latest sweep: [results]"  # of our part of a note
_END = f"[All sweeps]({PAGES})"  # of our part of a note


@dataclass(frozen=True)
class Compared:
    """What a sweep compares in one task.

    score:    the score that selects, as "auroc"
    groups:   (model, method, level) of each run
    sections: into which MLflow puts the charts of all metrics (`tracked_run.chart_sections`)
    """

    sweep: str
    task: str
    score: str
    groups: Sequence[tuple[str, str, TrainingSize]]
    sections: Collection[str]

    @property
    def levels(self) -> list[TrainingSize]:
        """The levels in ascending order."""
        return sorted({level for _, _, level in self.groups})


def publish(compared: Compared, uri: str) -> str:
    """Write or renew a sweep's views in the experiment of its task; return the experiment's id."""
    check_name(compared.sweep)
    api, experiment = connect(uri), experiment_id(uri, compared.task)
    views = {_key(compared.sweep): view(compared)}
    if len(compared.levels) > 1:
        views |= {_key(compared.sweep, x): view(compared, level=x) for x in compared.levels}
    before = api.get_experiment(experiment).tags
    for key in before.keys() - views.keys():
        if key.startswith(f"{_key(compared.sweep)}:"):  # a level that it no longer has
            api.delete_experiment_tag(experiment, key)
    tags = {**views, f"{_OURS}{compared.sweep}": repr(time.time())}
    for key, value in {**tags, NOTE: _note(before | tags, experiment)}.items():
        api.set_experiment_tag(experiment, key, value)
    return experiment


def _key(sweep: str, level: TrainingSize | None = None) -> str:
    """Return the name of the tag with a view; a sweep's name has no colon."""
    return f"{VIEW}{sweep}" if level is None else f"{VIEW}{sweep}:{level.name}"


def sweeps(api: MlflowClient, experiment: str) -> list[str]:
    """Return the sweeps with a view in an experiment, the latest first."""
    return _sweeps(api.get_experiment(experiment).tags)


def _sweeps(tags: Mapping[str, str]) -> list[str]:
    times = {}
    for key, value in tags.items():
        name = key.removeprefix(_OURS)
        if name != key and VIEW + name in tags:
            try:
                times[name] = float(value)
            except ValueError:  # somebody changed it by hand
                times[name] = 0.0
    return sorted(times, key=lambda name: (-times[name], name))


def _note(tags: Mapping[str, str], experiment: str) -> str:
    """Return an experiment's note: links to its latest sweep, between the texts that users wrote.

    The links are short, since MLflow's list of experiments shows the note as plain text.
    """
    latest = _sweeps(tags)[0]
    own, end, others = tags.get(NOTE, "").partition(_END)
    above = own.partition(_START)[0] if end else ""
    link = f"{_START}({page(latest)}), "
    link += f"[its runs]({comparison_url('', experiment, view=latest)}). {_END}"
    return above + link + (others if end else f"\n\n{own}".rstrip())


def page(sweep: str) -> str:
    """Return the address of a sweep's results in `mimic-reg ui`, seen from MLflow's pages."""
    return f"{PAGES}{check_name(sweep)}"


def plain(text: str) -> str:
    """Return Markdown that shows a text literally, on one line, in MLflow's pages."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]()#+!~|>-])", r"\\\1", text)


def comparison_url(
    base: str,
    experiment: str,
    *,
    sweep: str | None = None,
    view: str | None = None,
    level: TrainingSize | None = None,
    chosen: Mapping[str, str] | None = None,
) -> str:
    """Return the link to the page that compares the runs of an experiment in charts.

    base:   address of MLflow, as http://127.0.0.1:5000; "" for a link within its pages
    sweep:  the sweep whose runs to show; None: all runs
    view:   the sweep whose view to open, which sets all of the page; level: runs at that level only
    chosen: tag → value of the runs to show, as a table
    """
    root = f"{base.rstrip('/')}/" if base else "./"
    start = f"{root}?{_TRAINING}#/experiments/{experiment}/runs?"
    if view is not None:
        key = quote(_key(check_name(view), level).removeprefix(VIEW))
        return f"{start}viewStateShareKey={key}&compareRunsMode=CHART&{_TRAINING}"
    wanted = [sweep_filter(sweep)] if sweep else []
    wanted += [f"tags.`{tag}` = {_quoted(value)}" for tag, value in (chosen or {}).items()]
    mode = "" if chosen else "compareRunsMode=CHART&"
    found = f"&searchFilter={quote(' AND '.join(wanted), safe='')}" if wanted else ""
    return f"{start}{mode}{_TRAINING}{found}"


def run_url(base: str, experiment: str, run_id: str) -> str:
    """Return the link to a run; `base` as in `comparison_url`."""
    return f"{base.rstrip('/')}/?{_TRAINING}#/experiments/{experiment}/runs/{run_id}"


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def view(compared: Compared, level: TrainingSize | None = None) -> str:
    """Return the view of a sweep: columns, groups and charts, as MLflow's pages keep them.

    level: the level to show; None: all levels
    """
    several = len({model for model, _, _ in compared.groups}) > 1
    one_level = level is not None or len(compared.levels) == 1
    key = MODEL_METHOD_LEVEL if several else "method" if one_level else METHOD_LEVEL
    columns = _columns(compared.score, several)
    wanted = sweep_filter(compared.sweep)
    if level is not None:
        wanted += f" AND tags.`level` = {_quoted(format_level(level))}"
    state = {
        "selectedColumns": columns,
        "columnOrder": [_RUN_NAME, *columns, "duration"],
        "columnWidths": {_RUN_NAME: 250, **dict.fromkeys(columns, 150)},
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": key}],
        },
        "groupsExpanded": {f"tag.{key}.{group_tags(*g)[key]}": False for g in compared.groups},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": _sections(compared),
        "compareRunCharts": _charts(compared, one_level),
        "orderByKey": "tags.`order`",
        "orderByAsc": True,
        "searchFilter": wanted,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }
    return pack(state)


def pack(state: Mapping[str, Any]) -> str:
    """Return a view, as MLflow's pages keep it, of the state that they show."""
    text = json.dumps(state, separators=(",", ":"))
    return f"{_PACKED}{b64encode(zlib.compress(text.encode())).decode()}"


def unpack(text: str) -> dict[str, Any]:
    """Return the state in a view."""
    state = json.loads(zlib.decompress(b64decode(text.removeprefix(_PACKED))))
    assert isinstance(state, dict)
    return state


def _columns(score: str, several: bool) -> list[str]:
    tags = (["model"] if several else []) + ["method", "level", "seed"]
    metrics = [f"test/{score}", f"validation/best_{score}", AT_BEST]
    return [
        *(f"metrics.`{name}`" for name in metrics),  # first: groups show nothing else
        *(f"tags.`{name}`" for name in tags),
        "attributes.`Duration`",
    ]


_RUN_NAME = "attributes.`Run Name`"
_SELECTED = "selection/selected_now"
_TEST, _EPOCHS, _SELECTION, _AGAINST, _PARALLEL = "abcde"


def _sections(compared: Compared) -> list[dict[str, Any]]:
    """Return our sections, then those that MLflow fills with a chart for each metric, closed.

    MLflow opens a section that the view does not name, and shows one that it names and is empty.
    """
    name = format_score_name(compared.score)
    ours = {
        _TEST: f"Test {name}: method by level",
        _EPOCHS: f"Validation {name} by epoch",
        _SELECTION: "Selected parameters by epoch",
        _AGAINST: f"Test {name} against validation",
        _PARALLEL: "Strength and level against scores",
    }
    if not _selects(compared):
        del ours[_SELECTION]
    common = {"isReordered": False, "isGeneratedAutomatically": False}
    found: list[dict[str, Any]] = [
        {"uuid": key, "name": title, "display": True, "columns": 1, "cardHeight": 420, **common}
        for key, title in ours.items()
    ]
    rest = sorted(compared.sections, key=lambda n: (SECTIONS.index(n.partition("/")[0]), n))
    return found + [{"uuid": n, "name": n, "display": False, **common} for n in rest]


def _selects(compared: Compared) -> bool:
    """Return whether a method records how many parameters it selects."""
    return _SELECTED.partition("/")[0] in compared.sections


def _charts(compared: Compared, one_level: bool) -> list[dict[str, Any]]:
    """Return the charts of our sections.

    MLflow's bars begin at 0, so that scores look alike; the axes of its points fit the scores.
    """
    score = compared.score
    test, validation = f"test/{score}", f"validation/best_{score}"
    levels = list(compared.levels[0].tags())
    charts: list[dict[str, Any]] = [{"type": "BAR", "metricSectionId": _TEST, "metricKey": test}]
    if not one_level:
        charts.append(_points(_TEST, {"key": levels[0], "type": "PARAM"}, test))
    # the range of seeds would draw the axis from 0; no model stays below an AUROC of 0.4
    values = {"yMin": 0.4, "yMax": 1.0} if score.endswith("auroc") else {}
    charts.append(_line(_EPOCHS, f"validation/{score}", values))
    if _selects(compared):
        charts.append(_line(_SELECTION, _SELECTED, {}))
    charts.append(_points(_AGAINST, {"key": validation, "type": "METRIC"}, test))
    charts.append(
        {
            "type": "PARALLEL",
            "metricSectionId": _PARALLEL,
            "selectedParams": ["strength", *levels],
            "selectedMetrics": [validation, test],
            "showAllRuns": True,
        }
    )
    common = {"deleted": False, "isGenerated": False, "runsCountToCompare": 1000}
    return [{"uuid": f"chart-{n}", **common, **chart} for n, chart in enumerate(charts)]


def _points(section: str, x: Mapping[str, str], metric: str) -> dict[str, Any]:
    y = {"key": metric, "type": "METRIC"}
    return {"type": "SCATTER", "metricSectionId": section, "xaxis": x, "yaxis": y}


def _line(section: str, metric: str, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricSectionId": section,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": values,
        "selectedXAxisMetricKey": "",
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": True,
    }
