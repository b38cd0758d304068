"""What whole stays save on an hourly task: training and prediction of causal models, a sample at a
time (each is a prefix of its stay) and a stay at a time.

    python benchmarks/causal.py [--device cuda] [--stays 300] [--out benchmarks/results/causal.json]

The stays are random numbers of the published lengths: log-normal, with the published number of
samples per stay of decompensation and the published share of stays of 48 hours or more. Single
samples are trained as published, in random batches of 32, and in batches of similar lengths;
stays in batches of 4,096 samples. Prediction is in batches of one size. Each figure is for a
sample: seconds of a processor with one thread, or on a GPU seconds by the clock.
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

import mimic_reg  # noqa: F401  # isort: skip  # before torch is loaded: how its threads wait
import numpy as np
import torch

from mimic_reg import methods, models
from mimic_reg.clinical.schema import CHANNELS
from mimic_reg.engine.prediction import predict
from mimic_reg.engine.trainer import Trainer
from mimic_reg.experiments.costs import sizes
from mimic_reg.extraction.audit import published_sizes
from mimic_reg.samples import Samples, Units
from mimic_reg.samples.base import make_samples
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training

MODELS = ("causal_lstm", "gru", "tcn", "causal_transformer")
FIRST_HOUR = 5  # of decompensation's samples
SINGLE = {"batch_size": 32}
ARMS = {
    "single, random batches": SINGLE,
    "single, batches of similar lengths": SINGLE | {"by_length": True},
    "by stay": {"batch_size": 4096, "by_stay": True},
    "by stay, batches of similar lengths": {"batch_size": 4096, "by_stay": True, "by_length": True},
}


def lengths(num: int) -> np.ndarray:
    """Hours of stays, as the published ones are distributed."""
    known = published_sizes()
    stays = known["stays"]["decompensation"]["train"]
    mean = sizes()["decompensation", "train"] / stays + FIRST_HOUR - 1
    longer = known["samples"]["in_hospital_mortality"]["train"] / stays
    rng = np.random.default_rng(0)
    # log-normal: exp(m + s z) with P(>= 48) = longer and the mean exp(m + s²/2)
    z = statistics.NormalDist().inv_cdf(1 - longer)
    s = z + np.sqrt(z**2 + 2 * (np.log(mean) - np.log(48)))
    m = np.log(48) - s * z
    return np.maximum(np.exp(m + s * rng.normal(size=num)).round().astype(int), FIRST_HOUR)


def hourly(num: int, device: torch.device) -> Samples:
    """Random stays, with a random label at each hour from the fifth on."""
    rng = np.random.default_rng(0)
    length = lengths(num)
    values = rng.normal(size=(length.sum() + 1, len(CHANNELS))).astype(np.float32)
    offset = torch.from_numpy(np.cumsum(length) - length).to(device)
    units = Units(torch.from_numpy(values).to(device), offset, np.arange(num), sequence=True)
    ends = [np.arange(FIRST_HOUR, n + 1) for n in length]
    unit = np.repeat(np.arange(num), [len(e) for e in ends]).astype(np.int32)
    label = rng.integers(0, 2, (len(unit), 1)).astype(np.int8)
    end = np.concatenate(ends).astype(np.int32)
    return make_samples(units, "binary", unit, end, label, np.arange(len(unit)))


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Time of a call: of the processor, or by the clock on a GPU."""
    if device.type != "cuda":
        begin = time.process_time()
        run()
        return time.process_time() - begin
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def trainer(name: str, samples: Samples, folder: Path, training: dict[str, object]) -> Trainer:
    """The engine on one model, with its history open."""
    streams = Streams(0, "benchmark")
    made = Trainer(
        models.create(name, 1, shape=(len(CHANNELS),), generator=streams.init()),
        methods.compose(["none"]),
        samples,
        samples,
        num_outputs=1,
        selected_by="auroc",
        training=Training.model_validate(training),
        streams=streams,
        folder=folder,
    )
    made.recorder.open()
    made.model.train()
    return made


def trained(made: Trainer, steps: int, device: torch.device) -> float:
    """Seconds of a sample in training, after a step that is not counted."""
    made.step(last=False)

    def run() -> None:
        for _ in range(steps):
            made.step(last=False)

    return seconds(run, device) / steps / made.training.batch_size


def measure(name: str, samples: Samples, device: torch.device, rounds: int) -> dict[str, object]:
    """Seconds of a sample in each way, the median of rounds, and how much faster stays are."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    single, whole = "predict single samples", "predict stays"
    found |= {single: [], whole: []}
    some = samples.keep(np.flatnonzero(np.isin(samples.unit.cpu().numpy(), np.arange(20))))
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for arm, training in ARMS.items():
                place = Path(folder, arm)
                place.mkdir()
                made = trainer(name, samples, place, training)
                steps = 2 if training.get("by_stay") else 8
                found[arm].append(trained(made, steps, device))
            model = made.model.eval()
            for way, by_stay in ((single, False), (whole, True)):
                call = partial(predict, model, some, by_stay=by_stay)
                found[way].append(seconds(call, device) / len(some))
    medians = {way: statistics.median(times) for way, times in found.items()}
    random, similar, stay, _ = (medians[arm] for arm in ARMS)
    return {
        "microseconds per sample": {way: round(t * 1e6, 1) for way, t in medians.items()},
        "training by stay, times faster": round(random / stay, 1),
        "than batches of similar lengths, times faster": round(similar / stay, 1),
        "prediction by stay, times faster": round(medians[single] / medians[whole], 1),
        "hours of a training pass over 2,388,414 samples by stay": round(
            stay * sizes()["decompensation", "train"] / 3600, 2
        ),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stays", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(given.device)
    samples = hourly(given.stays, device)
    length = lengths(given.stays)
    result: dict[str, object] = {
        "machine": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.machine(),
        "torch": torch.__version__,
        "stays": given.stays,
        "samples": len(samples),
        "hours of a stay": {
            "mean": round(float(length.mean()), 1),
            "median": int(np.median(length)),
        },
        "mean hours of a sample": round(float(samples.lengths.float().mean()), 1),
    }
    for name in given.models:
        result[name] = measure(name, samples, device, given.rounds)
        print(name, json.dumps(result[name], indent=1), flush=True)
    text = json.dumps(result, indent=1) + "\n"
    if given.out:
        given.out.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
