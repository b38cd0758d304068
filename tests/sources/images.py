"""Write small image data sets in the formats in which they are distributed, for tests."""

import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

FASHION_MNIST_BEGINS = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion_mnist(folder: Path, num: int = 120, edge: int = 8, seed: int = 0) -> Path:
    """Write images whose brightest row depends on the class, so that it can be learnt."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for prefix, count in (("train", num), ("t10k", num // 3)):
        labels = np.arange(count, dtype=np.uint8) % 10
        if prefix == "train":
            labels = _beginning_with(FASHION_MNIST_BEGINS, labels)
        pixels = generator.integers(0, 60, (count, edge, edge), dtype=np.uint8)
        pixels[np.arange(count), labels % edge, :] += 100
        pixels[:, :, 0] += (labels >= edge).astype(np.uint8)[:, None] * 90
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder


def _beginning_with(first: tuple[int, ...], labels: np.ndarray) -> np.ndarray:
    """Return the same labels in an order that begins with `first`."""
    rest = labels.tolist()
    for label in first:
        rest.remove(label)
    return np.array([*first, *rest], np.uint8)


def cifar_part(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (num, 3, 32, 32), dtype=np.uint8)
    return pixels, (np.arange(num) % 10).astype(np.uint8)


def write_cifar_binary(folder: Path, num: int = 30) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 7):
        pixels, labels = cifar_part(num, number)
        rows = np.concatenate([labels[:, None], pixels.reshape(num, -1)], axis=1)
        name = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
        rows.tofile(folder / name)
    return folder


def write_cifar_python(folder: Path, num: int = 30) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 7):
        name = f"data_batch_{number}" if number < 6 else "test_batch"
        (folder / name).write_bytes(python2_batch(*cifar_part(num, number)))
    return folder


def python2_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Return a batch as Python 2's cPickle writes it: protocol 2, bytes as BINSTRING.

    As in cPickle, every text, list, tuple and array is put into the unpickler's memo.
    """
    number = itertools.count(1)

    def put() -> bytes:
        place = next(number)
        return b"q" + bytes([place]) if place < 256 else b"r" + struct.pack("<I", place)

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode() + put()

    data = pixels.reshape(len(pixels), -1).tobytes()
    shape = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    array = (
        (b"cnumpy.core.multiarray\n_reconstruct\n" + put())
        + (b"cnumpy\nndarray\n" + put())
        + (b"K\x00\x85" + put() + text("b") + b"\x87" + put() + b"R" + put() + b"(K\x01")
        + (shape + put())
        + (b"cnumpy\ndtype\n" + put() + text("u1") + b"K\x00K\x01\x87" + put() + b"R" + put())
        + (b"(K\x03" + text("|"))
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        + b"K\x00tb\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )
    items = b"".join(b"K" + bytes([label]) for label in labels)
    names = b"".join(text(f"image_{i}.png") for i in range(len(labels)))
    return (
        (b"\x80\x02}" + put() + b"(")
        + (text("data") + array)
        + (text("labels") + b"]" + put() + b"(" + items + b"e")
        + (text("batch_label") + text("training batch 1 of 5"))
        + (text("filenames") + b"]" + put() + b"(" + names + b"e")
        + b"u."
    )


def write_stl(folder: Path, num: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", num), ("test", num // 2)):
        pixels = generator.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        pixels.swapaxes(2, 3).tofile(folder / f"{part}_X.bin")  # columns first
        (np.arange(count, dtype=np.uint8) % 10 + 1).tofile(folder / f"{part}_y.bin")
        np.save(folder / f"expected_{part}.npy", pixels)
    return folder


def write_pictures(folder: Path, edges: tuple[int, int] = (6, 6)) -> Path:
    """Write two classes that differ in red, 12 pictures per class in train/ and test/."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for copy in range(12):
                colour = (200 * number, 10 * copy, 30)
                edge = edges[copy % 2]
                picture = image.new("RGB", (edge, edge), colour)
                picture.save(folder / part / name / f"{copy:02}.png")
    return folder
