"""What a step costs with each method, over a plain one: ratios measured in one run.

    python benchmarks/methods.py [--rounds 30] [--models lstm dnn] [--methods dropout sam]

Each round takes a few steps of every method in turn, so that a busy machine slows all of them; a
ratio is the median over rounds of the ratio within a round, of processor time. The methods are the
files of configs/methods with their values for the model; new files are found. Each is measured in
the first and in the last epoch of a fit, and the dearer one counts: some methods begin late, as
distillation with its teacher, and some end early. What is between epochs is not counted. A method
for neither the LSTM nor the DNN is measured on the CNN or the causal LSTM.

Written: benchmarks/results/methods.json, with the machine; and the ratios that dry runs go by,
which the package holds (mimic_reg/experiments/resources/step_costs.json), by module. Where several
files have the same single module, the one of its name counts, else the dearest. With --models or
--methods the others keep what they had. Then `make pages` writes the pages anew.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mimic_reg  # isort: skip  # before torch is loaded: how its threads wait
import torch
from training import engine_steps, images, measure, ratio, stays, trainer

from mimic_reg.engine.trainer import Trainer
from mimic_reg.experiments.catalogue import Entry, entries
from mimic_reg.samples import Samples
from mimic_reg.settings.files import method_called

PLAIN = "none"
SAMPLES = {"lstm": stays, "dnn": images, "cnn": partial(images, model="cnn"), "causal_lstm": stays}
STEPS = {"lstm": 1, "dnn": 5, "cnn": 1, "causal_lstm": 1}  # of a method in a round
FIRST = ("lstm", "dnn")  # the others are for methods that serve none of these
EPOCHS = 20
RESULTS = Path(__file__).parent / "results" / "methods.json"
COSTS = Path(mimic_reg.__file__).parent / "experiments" / "resources" / "step_costs.json"


def fit_of(entry: Entry, model: str, samples: Samples, folder: Path, *, last: bool) -> Trainer:
    """A fit in its first epoch, or in its last one."""
    found = [c.entry() for c in method_called(entry.name).of(model, entry.name).regularisers]
    folder.mkdir(parents=True)
    made = trainer(model, samples, found, folder, max_epochs=EPOCHS)
    fit, method = made.fit, made.method
    if last:
        fit.epoch, fit.step, fit.score = EPOCHS - 2, (EPOCHS - 1) * fit.epoch_steps, 0.5
        for event in ("epoch_start", "before_validation", "epoch_end"):
            method.tick(event, fit)
        fit.epoch += 1
    made.begin_epoch(new=True)
    return made


def measure_model(
    model: str, chosen: list[Entry], rounds: int, steps: int
) -> dict[str, dict[str, float]]:
    """Method → milliseconds of a step, and the step over a plain one, where it is dearer."""
    samples = SAMPLES[model](torch.device("cpu"), 512)
    first, final = (
        measure_phase(model, samples, chosen, rounds, steps, last) for last in (False, True)
    )
    return {
        name: max(first[name], final[name], key=lambda cost: cost["over_plain"])
        for name in first
        if name in final
    }


def measure_phase(
    model: str, samples: Samples, chosen: list[Entry], rounds: int, steps: int, last: bool
) -> dict[str, dict[str, float]]:
    """The same in the first epoch of a fit, or in its last one."""
    device = torch.device("cpu")
    variants: dict[str, Callable[[int], None]] = {}
    fits: list[Trainer] = []
    with tempfile.TemporaryDirectory() as name:
        for entry in chosen:
            try:
                made = fit_of(entry, model, samples, Path(name, entry.name), last=last)
                engine_steps(made)(1)
            except Exception as error:  # noqa: BLE001  # one method stops no other one
                print(f"{model}, {entry.name}: not measured: {error}")
                continue
            variants[entry.name] = engine_steps(made)
            fits.append(made)
        seconds = measure(variants, rounds, steps, device, time.process_time)
        for made in fits:
            made.recorder.close()
    return {
        method: {
            "milliseconds": round(1000 * statistics.median(seconds[method]), 3),
            "over_plain": round(ratio(seconds, method, PLAIN), 3),
        }
        for method in variants
    }


def measured_on(method: str) -> list[str]:
    """The models on which a method is measured."""
    served = [model for model in SAMPLES if method_called(method).serves(model)]
    return [model for model in served if model in FIRST] or served[:1]


def by_module(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Module → model → a step with it over a plain one, from files that have that module only."""
    costs: dict[str, dict[str, tuple[bool, float]]] = {}
    for model, of_model in found.items():
        for method, cost in of_model.items():
            components = method_called(method).regularisers
            if len(components) == 1:
                (module,) = (c.name for c in components)
                rank = module == method, cost["over_plain"]
                there = costs.setdefault(module, {})
                there[model] = max(rank, there.get(model, (False, 0.0)))
    return {m: {k: cost for k, (_, cost) in of.items()} for m, of in sorted(costs.items())}


def merged(path: Path, fresh: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a file of two levels holds, with what is fresh put over it."""
    there = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {k: {**there.get(k, {}), **fresh.get(k, {})} for k in sorted({*there, *fresh})}


def main() -> None:
    """Measure, print a table, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--models", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--methods", nargs="+", default=[], help="all by default")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for model in arguments.models:
        chosen = [
            entry
            for entry in entries()
            if entry.file
            and (not arguments.methods or entry.name in (*arguments.methods, PLAIN))
            and (entry.name == PLAIN or model in measured_on(entry.name))
        ]
        found[model] = measure_model(model, chosen, arguments.rounds, STEPS[model])
        for method, cost in found[model].items():
            print(
                f"{model:12}{method:26}{cost['milliseconds']:>10.2f} ms{cost['over_plain']:>8.2f}"
            )
    if arguments.dry:
        return
    machine = {
        "processor": platform.machine(),
        "torch": torch.__version__,
        "threads": 1,
        "rounds": arguments.rounds,
        "steps": STEPS,
    }
    earlier = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    models = {k: {**earlier.get("models", {}).get(k, {}), **v} for k, v in found.items()}
    models = {**earlier.get("models", {}), **models}
    RESULTS.write_text(json.dumps({"machine": machine, "models": models}, indent=1) + "\n", "utf-8")
    costs = merged(COSTS, by_module(found))
    lines = [f' "{module}": {json.dumps(of_model)}' for module, of_model in costs.items()]
    COSTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
