"""A sweep of 1,000 runs in MLflow: how long until its charts are there, in a real browser?

    python benchmarks/mlflow_pages.py FOLDER [--runs 1000]

Three methods are trained once, on simulated patients. Their run folders are copied under other
levels and seeds, with scores and curves that a random number moves; so what is logged is made up,
but the code that logs it is the sweep's. Then MLflow's server of `mimic-reg ui` is started, and
Debian's chromium opens the link that it prints. Results are written to
benchmarks/results/mlflow_pages.json.
"""

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mimic_reg import experiments  # noqa: E402
from mimic_reg.extraction import extract  # noqa: E402
from mimic_reg.learners.trials import resolve  # noqa: E402
from mimic_reg.runs.record import read_run  # noqa: E402
from mimic_reg.settings.size import training_size  # noqa: E402
from mimic_reg.simulation.synthesis import synthesize  # noqa: E402
from mimic_reg.store import read_json, write_json  # noqa: E402
from mimic_reg_pipelines.deploy import ui  # noqa: E402
from mimic_reg_pipelines.flows.sweep import sweep  # noqa: E402
from mimic_reg_pipelines.runners.settings import Running  # noqa: E402
from mimic_reg_pipelines.tracking import client, comparison, mlflow_runs  # noqa: E402
from mimic_reg_pipelines.tracking.tracked_run import chart_sections  # noqa: E402
from tests.pipelines.deploy.browser import browser, text, wait  # noqa: E402
from tests.postgresql import free_port  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "mlflow_pages.json"
TASK, MODEL, SWEEP = "in_hospital_mortality", {"lstm": {"units": 8}}, "thousand"
METHODS = ("none", "dropout", "itps")
LEVELS = (0.1, 0.25, 0.5, 1.0)
BARS = ".js-plotly-plot .bars path"
LINES = ".js-plotly-plot .scatterlayer .js-line"


def templates(folder: Path) -> dict[str, Path]:
    """Return a finished run folder for each method."""
    raw, work = folder / "raw", folder / "templates"
    if not raw.exists():
        synthesize(raw, patients=400)
    extract(raw, work / "store")
    grid = {"tasks": [TASK], "models": [MODEL], "methods": [*METHODS], "seeds": 1}
    settings = {"name": "templates", "title": "Templates", "grids": [grid]}
    settings["training"] = {"max_epochs": 20}
    result = sweep(experiments.parse(settings), work, running=Running(runner="in_process"))
    return {trial.method: result.run_folder(trial) for trial in result.trials}


def copy(template: Path, target: Path, level: float, seed: int) -> None:
    """Write a run folder that looks like another trial."""
    draw = random.Random(f"{template.name} {level} {seed}")
    by = draw.gauss(0.05 * level, 0.02)
    shutil.copytree(template, target, ignore=shutil.ignore_patterns("*.safetensors", "*.parquet"))
    described, scores = read_json(target / "trial.json"), read_json(target / "scores.json")
    described["trial"] |= {"seed": seed, "supervision": level}
    described["id"] = resolve(described["trial"]).id(described["store"]["fingerprint"])
    scores["trial"] = described["id"]
    for split in scores["scores"].values():
        split["auroc"]["value"] = min(max(split["auroc"]["value"] + by, 0.0), 1.0)
    rows = [json.loads(line) for line in (target / "history.jsonl").read_text().splitlines()]
    for row in rows:
        if row["event"] == "epoch":
            row["validation"]["auroc"] = min(max(row["validation"]["auroc"] + by, 0.0), 1.0)
    (target / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_json(target / "trial.json", described)
    write_json(target / "scores.json", scores)
    write_json(target / "done.json", {"trial": described["id"]})


def log(folder: Path, runs: int, uri: str) -> float:
    """Log so many runs and the sweep's view; return the seconds that it took."""
    found = templates(folder)
    cells = [(method, level) for level in LEVELS for method in METHODS]
    start = time.monotonic()
    groups = []
    for number in range(runs):
        method, level = cells[number % len(cells)]
        target = folder / "runs" / str(number)
        if not target.exists():
            copy(found[method], target, level, number // len(cells))
        mlflow_runs.log_trial(target, uri=uri, sweep=SWEEP, method=method)
        groups.append(("lstm", method, training_size(level)))
        if number % 100 == 99:
            print(f"{number + 1} runs logged, {time.monotonic() - start:.0f} s", flush=True)
    sections = {name for run in found.values() for name in chart_sections(read_run(run))}
    comparison.publish(comparison.Compared(SWEEP, TASK, "auroc", groups, sections), uri)
    return time.monotonic() - start


def look(uri: str, runs: int, picture: Path) -> dict[str, float]:
    """Open the link; return the seconds until its parts were there."""
    groups = len(METHODS) * len(LEVELS)
    port = free_port()
    with ui.running(uri, port=port) as server, browser(height=3000) as opened:
        link = ui.links(uri, server.url)[f"mimic-reg-{TASK}"]
        found = {}
        for visit in ("first", "again"):
            opened.get("about:blank")
            start = time.monotonic()
            opened.get(link)
            wait(opened, lambda: f"{runs} matching runs" in text(opened), 300)
            found[f"{visit}_list"] = time.monotonic() - start
            wait(opened, lambda: len(opened.find_elements("css selector", BARS)) == groups, 300)
            found[f"{visit}_bars"] = time.monotonic() - start
            wait(opened, lambda: len(opened.find_elements("css selector", LINES)) >= groups, 300)
            found[f"{visit}_curves"] = time.monotonic() - start
        opened.save_screenshot(str(picture))
    return {name: round(seconds, 1) for name, seconds in found.items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    uri = client.database(given.folder)
    client.prepare(uri)
    logged = log(given.folder, given.runs, uri)
    seconds = look(uri, given.runs, given.folder / "page.png")
    number = mlflow_runs.experiment_id(uri, TASK)
    tags = client.connect(uri).get_experiment(number).tags
    result = {
        "date": f"{datetime.date.today()}",
        "machine": f"{os.cpu_count()} cores, {platform.system()}",
        "load": round(os.getloadavg()[1], 1),
        "runs": given.runs,
        "groups": len(METHODS) * len(LEVELS),
        "seconds_to_log_one": round(logged / given.runs, 3),
        "seconds_until": seconds,
        "characters_of_the_view": len(tags[f"{comparison.VIEW}{SWEEP}"]),
    }
    print(json.dumps(result, indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
