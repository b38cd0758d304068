"""Read image data sets from disk: pixels, labels and class names.

Nothing is unpickled: only the constants in CIFAR-10's Python files are read.

Shapes: N images, C channels, H, W pixels.
"""

import gzip
import pickletools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic_reg.errors import InputError, install_advice

FASHION_MNIST_CLASSES = (
    *("t_shirt_top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle_boot"),
)
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
STL10_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)

_FASHION_MNIST_BEGINS = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)  # its first labels; MNIST's are 5, 0, 4, 1
_PICTURES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm")
_IDX_BYTES = 0x08  # the type code of unsigned bytes


@dataclass(frozen=True)
class Part:
    """The images of one part of a data set.

    pixels: (N, C, H, W) uint8
    labels: (N,) int64, from 0
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set as distributed: parts "train" and "test", and "val" if it has one."""

    name: str
    classes: tuple[str, ...]
    parts: dict[str, Part]


def read(folder: Path, size: int | None = None, name: str | None = None) -> Dataset:
    """Return the data set in a folder, in any known format.

    size: edge to which pictures of an image folder are resized; None: keep their size
    name: which data set, if the folder holds several

    Raises:
        InputError: the format is unknown, the folder holds several data sets and none is named, or
            a file is malformed.
    """
    inside, found = find(folder, name)
    return found.read(inside) if found else _image_folder(inside, size)


def files(folder: Path, name: str | None = None) -> list[Path]:
    """Return the files that `read` reads.

    Raises:
        InputError: as `find`.
    """
    inside, found = find(folder, name)
    patterns = (found.files,) if found else ("train/*/*", "val/*/*", "test/*/*")
    return sorted(path for pattern in patterns for path in inside.glob(pattern))


@dataclass(frozen=True)
class Format:
    """A known format.

    marker: pattern of a file that only this format has
    files:  pattern of all its files
    """

    name: str
    marker: str
    files: str
    read: Callable[[Path], Dataset]


def find(folder: Path, name: str | None = None) -> tuple[Path, Format | None]:
    """Return the folder of a data set and its format; None: a folder for each class.

    Raises:
        InputError: the format is unknown, or the folder holds several data sets and none is named.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    found = {
        known.name: (inside, known)
        for inside in (folder, *(folder / sub for sub in _SUBFOLDERS))
        for known in _FORMATS
        if any(inside.glob(known.marker))
    }
    if name in found:
        found = {name: found[name]}
    if len(found) > 1:
        raise InputError(
            f"{folder} holds several data sets: {', '.join(found)}. Give the folder of one of them."
        )
    for place in found.values():
        return place
    if (folder / "train").is_dir():
        return folder, None
    raise InputError(
        f"{folder} holds no images in a known format. Known are: Fashion-MNIST "
        "(train-images-idx3-ubyte.gz …), CIFAR-10 (cifar-10-batches-py or -bin), STL-10 "
        "(stl10_binary), and folders train/CLASS/*.jpg and test/CLASS/*.jpg."
    )


# --- Fashion-MNIST --------------------------------------------------------------------------------


def _fashion_mnist(folder: Path) -> Dataset:
    """Return Fashion-MNIST, or another data set in such files (MNIST) under the name "images"."""
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        pixels = read_idx(_packed(folder, f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(_packed(folder, f"{prefix}-labels-idx1-ubyte"))
        parts[part] = Part(pixels[:, None], labels.astype(np.int64))
    labels = parts["train"].labels
    if tuple(labels[: len(_FASHION_MNIST_BEGINS)]) == _FASHION_MNIST_BEGINS:
        return Dataset("fashion_mnist", FASHION_MNIST_CLASSES, parts)
    return Dataset("images", tuple(str(c) for c in range(labels.max() + 1)), parts)


def _packed(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_file() else folder / f"{name}.gz"


def read_idx(path: Path) -> np.ndarray:
    """Return the array of bytes in an IDX file, gzipped or not.

    Raises:
        InputError: it is missing, cut off, or not an IDX file of bytes.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}.") from error
    if len(data) < 4 or data[:3] != bytes([0, 0, _IDX_BYTES]):
        raise InputError(f"{path} is not an IDX file of bytes: it begins with {data[:4].hex()!r}.")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise InputError(f"{path} is cut off: it has {len(data):,} bytes.")
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">u4"))
    if len(data) != start + int(np.prod(shape)):
        raise InputError(f"{path} is cut off: it has {len(data):,} bytes for the shape {shape}.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


# --- CIFAR-10 -------------------------------------------------------------------------------------


def _cifar10(folder: Path) -> Dataset:
    python = (folder / "data_batch_1").is_file()
    suffix, reader = ("", _cifar_python) if python else (".bin", _cifar_binary)
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    train = [reader(folder / f"{name}{suffix}") for name in batches]
    pixels, labels = (np.concatenate(values) for values in zip(*train, strict=True))
    parts = {"train": Part(pixels, labels), "test": Part(*reader(folder / f"test_batch{suffix}"))}
    return Dataset("cifar10", CIFAR10_CLASSES, parts)


def _cifar_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = _records(path, 1 + 3 * 32 * 32)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def _cifar_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels and labels from the constants of a pickled dictionary.

    pickletools only lists the instructions of the file; it does not run them.
    """
    data = b""
    labels: list[int] = []
    in_labels = False
    for value in _constants(path):
        if isinstance(value, str):
            in_labels = value == "labels"
            if len(value) > len(data):
                data = value.encode("latin-1")
        elif in_labels:
            labels.append(value)
    if len(data) != len(labels) * 3 * 32 * 32 or not labels:
        raise InputError(
            f"{path} is not a batch of CIFAR-10: it has {len(data):,} bytes of pixels for "
            f"{len(labels):,} labels."
        )
    pixels = np.frombuffer(data, np.uint8).reshape(-1, 3, 32, 32)
    return pixels, np.array(labels)


# opcodes whose argument is an index of the unpickler's memo, or the protocol version
_NO_CONSTANTS = frozenset(
    {"PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
)


def _constants(path: Path) -> Iterator[str | int]:
    try:
        with path.open("rb") as file:
            for opcode, value, _ in pickletools.genops(file):
                if opcode.name in _NO_CONSTANTS:
                    continue
                if isinstance(value, bytes):
                    yield value.decode("latin-1")
                elif isinstance(value, str | int) and not isinstance(value, bool):
                    yield value
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.") from error


# --- STL-10 ---------------------------------------------------------------------------------------


def _stl10(folder: Path) -> Dataset:
    parts = {}
    for part in ("train", "test"):
        rows = _records(folder / f"{part}_X.bin", 3 * 96 * 96)
        pixels = rows.reshape(-1, 3, 96, 96).swapaxes(2, 3)  # the file stores columns first
        labels = _records(folder / f"{part}_y.bin", 1)[:, 0].astype(np.int64) - 1
        parts[part] = Part(np.ascontiguousarray(pixels), labels)
    return Dataset("stl10", STL10_CLASSES, parts)


def _records(path: Path, size: int) -> np.ndarray:
    """Return (N, size) bytes of a file without a header."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % size:
        raise InputError(f"{path} is cut off: {len(data):,} bytes are not a multiple of {size:,}.")
    return data.reshape(-1, size)


# --- folders of pictures --------------------------------------------------------------------------


def _image_folder(folder: Path, size: int | None) -> Dataset:
    classes = tuple(sorted(p.name for p in (folder / "train").iterdir() if p.is_dir()))
    if len(classes) < 2:
        raise InputError(f"{folder}/train needs a folder for each class, at least two.")
    parts = {}
    for part in ("train", "val", "test"):
        if (folder / part).is_dir():
            parts[part] = _pictures(folder / part, classes, size)
    if "test" not in parts:
        raise InputError(f"{folder} has no folder test/ with a folder for each class.")
    return Dataset("images", classes, parts)


def _pictures(folder: Path, classes: tuple[str, ...], size: int | None) -> Part:
    if unknown := {p.name for p in folder.iterdir() if p.is_dir()} - set(classes):
        raise InputError(f"{folder} has a class {min(unknown)!r} that train/ does not have.")
    paths = [(p, c) for c, name in enumerate(classes) for p in _files(folder / name)]
    if not paths:
        raise InputError(f"{folder} holds no pictures ({', '.join(_PICTURES)}).")
    pixels = [_decode(path, size) for path, _ in paths]
    shapes = {p.shape for p in pixels}
    if len(shapes) > 1:
        raise InputError(
            f"The pictures in {folder} differ in size. Resize them, for instance with --size 96."
        )
    return Part(np.stack(pixels), np.array([c for _, c in paths]))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)


def _decode(path: Path, size: int | None) -> np.ndarray:
    """Return a picture as (3, H, W) uint8."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise InputError(
            f"Pictures need Pillow, which is not installed: {install_advice('images')}"
        ) from error
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
            if size:
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(picture).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a readable picture: {error}.") from error


# where torchvision and the unpacked archives put the files
_SUBFOLDERS = ("FashionMNIST/raw", "cifar-10-batches-py", "cifar-10-batches-bin", "stl10_binary")
_FORMATS = (
    Format("fashion_mnist", "train-images-idx3-ubyte*", "*-ubyte*", _fashion_mnist),
    Format("cifar10", "data_batch_1", "*_batch*", _cifar10),
    Format("cifar10", "data_batch_1.bin", "*_batch*", _cifar10),
    Format("stl10", "train_X.bin", "*_[Xy].bin", _stl10),
)
