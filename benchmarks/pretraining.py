"""What pretraining without labels is worth with few labels, against training from scratch.

    python benchmarks/pretraining.py --store STORE --work WORK

Trains a trunk on all training stays by masked values and one by matched views, then fine-tunes both
on a twentieth and a quarter of the task's training samples, beside training from scratch: pairs
with the same samples, batches and head, only the trunk differs. Prints a table in Markdown, and
what it took.
"""

import argparse
import time
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mimic_reg import models
from mimic_reg.learners.trunk import load_into, load_trunk
from mimic_reg.multitask import finetune, pretrain
from mimic_reg.progress import Progress
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.results import collect
from mimic_reg.samples import load
from mimic_reg.seeds import Streams
from mimic_reg.settings import Component
from mimic_reg.store import Store

TASK = "in_hospital_mortality"
SHARES = (0.05, 0.25)


def linear_probe(model: Component, trunk: Path | None, store: Store, normalizer: str) -> float:
    """Return the test AUROC of a logistic regression on the features of a trunk that stands still.

    trunk: None: as a model starts
    """
    task, ((name, options),) = store.spec.task(TASK), model.entry().items()
    generator = Streams(0, TASK).init()
    spec = store.spec
    built = models.create(
        name, 1, shape=spec.features, cohort_channels=spec.channels, generator=generator, **options
    )
    if trunk is not None:
        load_into(built, model, load_trunk(trunk))
    built.eval()
    found = {}
    for split, samples in load(store, task, normalizer=normalizer).items():
        batch = samples.gather(torch.arange(len(samples)))
        with torch.no_grad():
            found[split] = built.features(batch.x, batch.lengths).numpy(), batch.y[:, 0].numpy()
    x, y = found["train"]
    mean, std = x.mean(0), x.std(0) + 1e-6
    fitted = LogisticRegression(C=0.01, max_iter=1000).fit((x - mean) / std, y)
    x, y = found["test"]
    return float(roc_auc_score(y, fitted.decision_function((x - mean) / std)))


class Notes(Progress):
    """Print what is said."""

    def note(self, text: str) -> None:
        """Print."""
        print(text, flush=True)


def main() -> None:
    """Train, fine-tune, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--freeze", type=int, default=0, help="epochs in which a trunk stands still"
    )
    given = parser.parse_args()
    model = Component.model_validate({"lstm": {"units": given.units}})
    trunks = []
    for objective in ("masked", "contrastive"):
        started = time.process_time()
        settings = pretrain.compose(
            TASK, "lstm", objective=objective, training={"max_epochs": given.epochs}
        ).model_copy(update={"model": model})
        trunks.append(given.work / objective)
        trunks[-1].mkdir(parents=True, exist_ok=True)
        pretrain.pretrain(settings, given.store, trunks[-1], progress=Notes(), threads=1)
        print(f"{objective}: {time.process_time() - started:.0f} s of one core", flush=True)
    store = Store.open(given.store)
    samples = load(store, store.spec.task(TASK), normalizer=settings.training.normalizer)
    print({split: len(found) for split, found in samples.items()})
    for trunk in (None, *trunks):
        found = linear_probe(model, trunk, store, settings.training.normalizer)
        print(f"linear probe, all labels, {trunk.name if trunk else 'initial trunk'}: {found:.4f}")
    numbers = tuple(round(share * len(samples["train"])) for share in SHARES)
    plan = finetune.Plan(task=TASK, samples=numbers, seeds=given.seeds, freeze=given.freeze)
    started = time.process_time()
    runs = finetune.finetune(
        plan, trunks, given.store, given.work / f"tuned_{given.freeze}", progress=Notes(), threads=1
    )
    print(f"{len(runs)} fits: {time.process_time() - started:.0f} s of one core")
    print(to_markdown(collect(runs)))


if __name__ == "__main__":
    main()
