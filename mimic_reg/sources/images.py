"""Import an image data set into a store: decoded once, kept as bytes, split as in the paper.

A store of images is published, verified and opened like a cohort store. It holds

    images.safetensors                    "images": (N, C, H, W) uint8
    tasks/image_classification.parquet    image (its row), split, y (its class)
    audit.json                            samples, and images per class, of every split
    manifest.json                         the cohort's specification, fingerprint, hashes

Validation images are drawn from the training part, class by class, with a fixed seed: 10,000 of
Fashion-MNIST and CIFAR-10, 1,000 of STL-10 (the paper's Table I), a sixth of any other data set. If
the folder has a part val/, that part is used instead.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import xxhash
from safetensors.torch import save_file

from mimic_reg import __version__
from mimic_reg.errors import InputError
from mimic_reg.progress import SILENT, Progress
from mimic_reg.seeds import derive
from mimic_reg.sources._image_formats import Dataset, Part, files, find, read
from mimic_reg.sources.at_rest import stamps, staying
from mimic_reg.store import MANIFEST, Store, check_target, kind_at, locked, read_json, write_json
from mimic_reg.store.spec import IMAGES, SPLITS, CohortSpec, Task
from mimic_reg.store.stages import Workspace, publish, recover

KIND = "images"
TASK = "image_classification"
TABLE = f"tasks/{TASK}.parquet"

VALIDATION = {"fashion_mnist": 10_000, "cifar10": 10_000, "stl10": 1_000}
_OTHER = 6  # for other data sets, one image in six

DOWNLOADS = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "stl10": "STL10"}  # classes


def import_images(
    folder: Path,
    out: Path,
    *,
    validation: int | None = None,
    size: int | None = None,
    name: str | None = None,
    progress: Progress = SILENT,
) -> Store:
    """Write the images in `folder` to the store `out`, unless it already holds them.

    validation: number of training images to use for validation; None: as in the paper
    size:       edge to which the pictures of an image folder are resized
    name:       of the data set, if the folder holds several

    Raises:
        InputError: the format is unknown, a file is damaged, or `out` holds something else.
        MimicRegError: a file changed while it was read, the disk is full, or the store is locked or
            cannot be written.
    """
    check_target(out)
    if kind_at(out) not in (None, KIND):
        raise InputError(f"{out} is a cohort store; images would replace it. Choose another --out.")
    with staying(stamps(files(folder, name))):
        dataset = read(folder, size, name)
    progress.note(f"{folder}: {dataset.name}, {len(dataset.classes)} classes.")
    with locked(out):
        recover(out, progress)
        table, pixels = _arrange(dataset, validation)
        fingerprint = _fingerprint(dataset, table, pixels)
        if (there := _same(out, fingerprint)) is not None:
            progress.note(f"{out} is up to date.")
            return there
        _write(out, dataset, table, pixels, fingerprint)
    return Store.open(out)


def cohort(name: str, shape: tuple[int, ...], classes: tuple[str, ...]) -> CohortSpec:
    """Return the specification of a store of images (C, H, W) with these classes."""
    task = Task(name=TASK, target="multiclass", labels=("y",), score="accuracy", classes=classes)
    return CohortSpec(
        name=re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-_.") or "images",
        unit="image",
        subject="image",
        shape=shape,
        tasks=(task,),
        splits="training and test part as published; validation drawn class by class",
        normalizers=("unit", "fitted", "raw"),
    )


def check_images(folder: Path, name: str | None = None) -> None:
    """Refuse a folder that `import_images` would refuse, by the names of its files alone.

    Raises:
        InputError: the format is unknown, or the folder holds several data sets and none is named.
    """
    find(folder, name)


def download(name: str, folder: Path) -> None:
    """Download a data set into `folder` with torchvision.

    Raises:
        InputError: the name is unknown, torchvision is not installed, or the download failed.
    """
    from mimic_reg.settings import suggest
    from mimic_reg.vision import torchvision

    if name not in DOWNLOADS:
        raise InputError(f"{name!r} cannot be downloaded. {suggest(name, DOWNLOADS)}")
    try:
        getattr(torchvision().datasets, DOWNLOADS[name])(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name} could not be downloaded ({error}). Without a network, download it elsewhere "
            f"and copy it into {folder}."
        ) from error


def _same(out: Path, fingerprint: str) -> Store | None:
    """Return the store, if it holds exactly these images."""
    path = out / MANIFEST
    if not path.exists() or read_json(path).get("fingerprint") != fingerprint:
        return None
    store = Store.open(out)
    return None if store.changed_files() else store


def _arrange(dataset: Dataset, validation: int | None) -> tuple[pl.DataFrame, torch.Tensor]:
    """Return the sample table, and the pixels of all parts in a row."""
    parts = dataset.parts
    _check(parts, dataset)
    split = {name: np.full(len(part.labels), name) for name, part in parts.items()}
    if "val" not in parts:
        split["train"] = _draw(parts["train"], dataset, validation)
    elif validation is not None:
        raise InputError("The folder has its own part val/. Leave out --validation.")
    table = pl.DataFrame(
        {
            "image": np.arange(sum(len(part.labels) for part in parts.values()), dtype=np.int32),
            "split": np.concatenate([split[name] for name in parts]),
            "y": np.concatenate([part.labels for part in parts.values()]).astype(np.int16),
        }
    )
    return table, torch.cat([torch.from_numpy(part.pixels.copy()) for part in parts.values()])


def _check(parts: dict[str, Part], dataset: Dataset) -> None:
    for name, part in parts.items():
        what, last = f"{dataset.name}: the part {name!r} has", len(dataset.classes) - 1
        if len(part.pixels) != len(part.labels):
            raise InputError(f"{what} {len(part.pixels):,} images but {len(part.labels):,} labels.")
        if part.labels.min() < 0 or part.labels.max() > last:
            raise InputError(f"{what} a label outside 0 to {last}.")
    if len({part.pixels.shape[1:] for part in parts.values()}) > 1:
        raise InputError(f"{dataset.name}: the parts have images of different sizes. Give --size.")


def _draw(train: Part, dataset: Dataset, validation: int | None) -> np.ndarray:
    """Return (N,) "val" for some training images, in proportion to the classes; else "train"."""
    count = len(train.labels)
    wanted = VALIDATION.get(dataset.name, count // _OTHER) if validation is None else validation
    if not 0 < wanted < count:
        raise InputError(
            f"{wanted:,} of {count:,} training images cannot be used for validation: --validation "
            f"must be from 1 to {count - 1:,}."
        )
    order = np.random.default_rng(derive("validation images")).permutation(count)
    order = order[np.argsort(train.labels[order], kind="stable")]
    # evenly spaced in the images sorted by class, so that every class has its share
    chosen = order[(np.arange(wanted) * count) // wanted]
    split = np.full(count, "train")
    split[chosen] = "val"
    return split


def _fingerprint(dataset: Dataset, table: pl.DataFrame, pixels: torch.Tensor) -> str:
    digest = xxhash.xxh3_128(repr((dataset.name, dataset.classes, tuple(pixels.shape))).encode())
    digest.update(pixels.numpy().data)
    for column in (table["y"].to_numpy(), (table["split"] == "val").to_numpy()):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _write(
    out: Path, dataset: Dataset, table: pl.DataFrame, pixels: torch.Tensor, fingerprint: str
) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "tasks").mkdir()
        save_file({"images": pixels}, folder / IMAGES)
        table.write_parquet(folder / TABLE)
        write_json(folder / "audit.json", _audit(dataset, table), sync=False)
        return {}

    work = Workspace(out, fingerprint)
    folder, _, _ = work.stage("images", build)
    work.finish()
    names = (IMAGES, TABLE, "audit.json")
    spec = cohort(dataset.name, tuple(pixels.shape[1:]), tuple(dataset.classes))
    manifest = {
        "program": __version__,
        "cohort": spec.model_dump(mode="json"),
        "fingerprint": fingerprint,
        "source": {"kind": KIND, "fingerprint": fingerprint},
    }
    publish(out, {name: folder / name for name in names}, manifest)


def _audit(dataset: Dataset, table: pl.DataFrame) -> dict[str, Any]:
    counts = {}
    for split in SPLITS:
        labels = table.filter(pl.col("split") == split)["y"].to_numpy()
        by_class = np.bincount(labels, minlength=len(dataset.classes))
        counts[split] = {
            "samples": len(labels),
            "classes": dict(zip(dataset.classes, by_class.tolist(), strict=True)),
        }
    return {"dataset": dataset.name, "samples": {TASK: counts}, "published": None}


def read_counts(store: Store) -> dict[str, dict[str, Any]]:
    """Return {split: number of samples, and of images per class}."""
    return read_json(store.path("audit.json"))["samples"][TASK]
