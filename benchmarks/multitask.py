"""What joining tasks costs beside their own steps, in processor time of one thread.

    python benchmarks/multitask.py --store STORE

Prints the time of one iteration of each strategy, over that of the same steps of the same engines
taken one by one; and the seconds of a step and of validating a task, which `mimic-reg sweep
--dry-run` estimates.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from mimic_reg import experiments
from mimic_reg.engine.trainer import Trainer
from mimic_reg.learners.data import load_data
from mimic_reg.learners.deep import make_trainer
from mimic_reg.multitask.fit import MultiTrainer
from mimic_reg.progress import Progress
from mimic_reg.settings import Trial
from mimic_reg.store import Store

ROUNDS = 4
STEPS = 10  # of a task, in each measurement


def engines_of(trial: Trial, store: Store, folder: Path) -> dict[str, Trainer]:
    """The engines of a fit."""
    found = {}
    for part in trial.parts():
        place = folder / part.task
        place.mkdir(parents=True)
        data = load_data(part, store, torch.device("cpu"), Progress())
        found[part.task] = make_trainer(part, data, place, Progress())
    return found


def alone(engine: Trainer) -> float:
    """Seconds of some steps of one engine."""
    started = time.process_time()
    for _ in range(STEPS):
        engine.step(last=False)
    return time.process_time() - started


def joined(trainer: MultiTrainer, number: int) -> float:
    """Seconds of as many steps of each task, by the strategy."""
    engines = list(trainer.engines.values())
    each = 1 if trainer.trial.strategy.name == "reptile" else STEPS
    started = time.process_time()
    for i in range(each):
        trainer.strategy.iterate(engines, 0, number * each + i)
    return time.process_time() - started


def measure(trial: Trial, label: str, store: Store) -> None:
    """Print a line for a fit; what is compared takes turns, so that neither has the warm caches."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = MultiTrainer(trial, engines_of(trial, store, Path(folder)), Path(folder))
        trainer.strategy.start(list(trainer.engines.values()))
        steps = dict.fromkeys(trainer.engines, 0.0)
        together = 0.0
        for engine in trainer.engines.values():
            engine.open(None)
            engine.begin_epoch(new=True)
            alone(engine)  # warm up
        for number in range(ROUNDS):
            for name, engine in trainer.engines.items():
                steps[name] += alone(engine)
                engine.fit.step -= STEPS  # the same batches again: their lengths differ
            together += joined(trainer, number)
        for engine in trainer.engines.values():
            engine.close()
        taken = ", ".join(f"{n} {s / STEPS / ROUNDS:.4f} s" for n, s in steps.items())
        print(
            f"{label}: {together / sum(steps.values()):.3f} times the steps alone ({taken} a step)"
        )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    store = Store.open(parser.parse_args().store)
    torch.set_num_threads(1)
    for planned in experiments.plan(experiments.load("multitask_demo")):
        if planned.trial.strategy:
            measure(planned.trial, planned.label, store)


if __name__ == "__main__":
    main()
