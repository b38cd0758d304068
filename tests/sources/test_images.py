"""Image data sets: every format as distributed, splits as in the paper, refusals."""

import gzip
import pickle  # only to show that the hand-written batches are what an unpickler would read
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.parity.export import export
from mimic_reg.parity.published import verify_published
from mimic_reg.samples import load
from mimic_reg.sources import images
from mimic_reg.sources._image_formats import CIFAR10_CLASSES, files, read, read_idx
from mimic_reg.sources.images import cohort, import_images, read_counts
from mimic_reg.store import Store, file_hash, locked
from mimic_reg.tasks import get
from tests.shared import shared
from tests.sources.images import (
    cifar_part,
    python2_batch,
    write_cifar_binary,
    write_cifar_python,
    write_fashion_mnist,
    write_idx,
    write_pictures,
    write_stl,
)

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TASK = cohort("x", (1, 2, 2), tuple("abcdefghij")).tasks[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_fashion_mnist(tmp_path_factory.mktemp("images") / "source")


@pytest.fixture(scope="module")
def store(source, tmp_path_factory):
    return import_images(source, tmp_path_factory.mktemp("images") / "store", validation=20)


# --- formats --------------------------------------------------------------------------------------


def test_fashion_mnist(source):
    dataset = read(source)
    assert dataset.name == "fashion_mnist"
    assert dataset.classes[9] == "ankle_boot"
    assert dataset.parts["train"].pixels.shape == (120, 1, 8, 8)
    assert dataset.parts["test"].labels.tolist() == [i % 10 for i in range(40)]
    assert dataset.parts["train"].pixels.dtype == np.uint8


@pytest.mark.parametrize("write", [write_cifar_binary, write_cifar_python])
@pytest.mark.parametrize("inside", ["cifar-10-batches-py", "cifar-10-batches-bin", "."])
def test_cifar10(write, inside, tmp_path):
    write(tmp_path / inside)
    dataset = read(tmp_path)
    assert (dataset.name, dataset.classes) == ("cifar10", CIFAR10_CLASSES)
    expected = [cifar_part(30, number) for number in range(1, 7)]
    assert np.array_equal(
        dataset.parts["train"].pixels, np.concatenate([pixels for pixels, _ in expected[:5]])
    )
    assert np.array_equal(dataset.parts["test"].pixels, expected[5][0])
    assert np.array_equal(dataset.parts["test"].labels, expected[5][1])


def test_the_hand_written_batch_equals_python_2s():
    pixels, labels = cifar_part(3, 0)
    batch = pickle.loads(python2_batch(pixels, labels), encoding="bytes")
    assert np.array_equal(batch[b"data"], pixels.reshape(3, -1))
    assert batch[b"labels"] == labels.tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_batches_of_every_pickle_protocol_are_read(tmp_path, protocol):
    """Indices of the unpickler's memo are numbers, but not labels."""
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels, labels = cifar_part(300, number)
        batch = {"labels": labels.tolist(), "data": pixels.reshape(300, -1)}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol))
    test = read(tmp_path).parts["test"]
    assert np.array_equal(test.pixels, pixels)
    assert np.array_equal(test.labels, labels)


def test_files_of_mnist_are_not_fashion_mnist(tmp_path):
    folder = write_fashion_mnist(tmp_path, num=60)
    labels = (np.arange(60) % 7).astype(np.uint8)
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels)
    dataset = read(folder)
    assert (dataset.name, dataset.classes) == ("images", tuple("0123456"))


def test_several_data_sets_in_a_folder_need_a_name(tmp_path):
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw")
    write_cifar_python(tmp_path / "cifar-10-batches-py")
    assert read(tmp_path, name="cifar10").name == "cifar10"
    assert read(tmp_path / "FashionMNIST" / "raw").name == "fashion_mnist"
    with pytest.raises(InputError, match="several data sets: fashion_mnist, cifar10"):
        read(tmp_path)


@pytest.mark.parametrize("damage", ["deflate", "short"])
def test_a_damaged_idx_file_is_refused(tmp_path, damage):
    folder = write_fashion_mnist(tmp_path)
    path = folder / "train-labels-idx1-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[14] ^= 0xFF
    path.write_bytes(data if damage == "deflate" else gzip.compress(bytes([0, 0, 8, 3, 0, 0])))
    with pytest.raises(InputError, match="is damaged" if damage == "deflate" else "is cut off"):
        read(folder)


def test_a_batch_is_never_unpickled(tmp_path):
    """A file that would run code is only read; without pixels it is refused."""
    write_cifar_python(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(b"cos\nsystem\n(U\x0etouch executedtR.")
    with pytest.raises(InputError, match="data_batch_3 is not a batch of CIFAR-10"):
        read(tmp_path)
    assert not Path("executed").exists()
    assert "pickle" not in vars(sys.modules["mimic_reg.sources._image_formats"])


def test_stl10(tmp_path):
    write_stl(tmp_path / "stl10_binary")
    dataset = read(tmp_path)
    for part in ("train", "test"):
        expected = np.load(tmp_path / "stl10_binary" / f"expected_{part}.npy")
        assert np.array_equal(dataset.parts[part].pixels, expected)
    assert dataset.parts["test"].labels.tolist() == list(range(10))


def test_a_folder_of_pictures(tmp_path):
    dataset = read(write_pictures(tmp_path))
    assert (dataset.name, dataset.classes) == ("images", ("cat", "dog"))
    train = dataset.parts["train"]
    assert train.pixels.shape == (24, 3, 6, 6)
    assert train.labels.tolist() == [0] * 12 + [1] * 12
    assert train.pixels[13, :, 0, 0].tolist() == [200, 10, 30]


def test_pictures_of_several_sizes_need_the_option_size(tmp_path):
    write_pictures(tmp_path, edges=(6, 9))
    with pytest.raises(InputError, match=r"differ in size\. Resize them, for instance with --size"):
        read(tmp_path)
    assert read(tmp_path, size=7).parts["train"].pixels.shape == (24, 3, 7, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "test" / "cat" / "00.png").write_bytes(b"no"),
            "00.png is not a readable picture",
        ),
        (lambda f: (f / "test" / "dog").rename(f / "test" / "cow"), "'cow' that train/ does not"),
        (lambda f: (f / "test").rename(f / "tset"), "has no folder test/"),
        (lambda f: (f / "train" / "dog").rename(f / "dog"), "needs a folder for each class"),
    ],
)
def test_a_malformed_folder_is_refused(change, message, tmp_path):
    write_pictures(tmp_path)
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_the_small_cifar10_of_jpegs():
    pytest.importorskip("PIL", reason="Pillow is not installed")
    dataset = read(shared("data/cifar10-small"))
    assert dataset.classes == CIFAR10_CLASSES
    assert dataset.parts["train"].pixels.shape == (6000, 3, 32, 32)
    assert np.bincount(dataset.parts["test"].labels).tolist() == [200] * 10


def test_the_real_fashion_mnist_has_the_splits_of_the_paper(tmp_path):
    if not FASHION_MNIST.is_dir():
        pytest.skip("Fashion-MNIST is not installed: apt-get install dataset-fashion-mnist")
    store = import_images(FASHION_MNIST, tmp_path / "store")
    counts = read_counts(store)
    assert [counts[s]["samples"] for s in ("train", "val", "test")] == [50_000, 10_000, 10_000]
    assert set(counts["train"]["classes"].values()) == {5_000}
    assert set(counts["val"]["classes"].values()) == {1_000}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 0]), "is not an IDX file of bytes"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, 0]), "is cut off"),
        (None, "There is no file"),
    ],
)
def test_other_files_are_not_idx(content, message, tmp_path):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_idx(tmp_path / "x")


def test_a_cut_off_archive(tmp_path):
    write_idx(tmp_path / "x.gz", np.zeros((4, 5), np.uint8))
    (tmp_path / "x.gz").write_bytes((tmp_path / "x.gz").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


def test_folders_without_images(tmp_path):
    with pytest.raises(InputError, match=r"holds no images in a known format\. Known are"):
        read(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        read(tmp_path / "none")


# --- stores ---------------------------------------------------------------------------------------


def test_validation_is_drawn_class_by_class(store):
    counts = read_counts(store)
    assert [counts[s]["samples"] for s in ("train", "val", "test")] == [100, 20, 40]
    assert set(counts["val"]["classes"].values()) == {2}
    assert set(counts["train"]["classes"].values()) == {10}
    assert store.spec.name == "fashion_mnist"


def test_every_image_is_a_sample_once_and_keeps_its_label(store, source):
    splits = load(store, TASK, normalizer="raw")
    original = read(source)
    pixels = np.concatenate([original.parts[p].pixels for p in ("train", "test")])
    labels = np.concatenate([original.parts[p].labels for p in ("train", "test")])
    table = store.read("tasks/image_classification.parquet")
    seen = []
    for samples in splits.values():
        batch = samples.gather(torch.arange(len(samples)))
        image = table["image"].to_numpy()[samples.row]
        seen.extend(image.tolist())
        assert np.array_equal(batch.x.numpy(), pixels[image].astype(np.float32))
        assert np.array_equal(batch.y.numpy(), labels[image])
        assert batch.y.dtype == torch.int64
    assert sorted(seen) == list(range(160))


def test_normalizers(store):
    raw = load(store, TASK, normalizer="raw")["train"].gather(torch.arange(100)).x
    unit = load(store, TASK, normalizer="unit")["train"].gather(torch.arange(100)).x
    fitted = load(store, TASK, normalizer="fitted")
    assert torch.allclose(unit, raw / 255)
    x = fitted["train"].gather(torch.arange(100)).x
    assert abs(x.mean().item()) < 1e-5
    assert abs(x.std(correction=0).item() - 1) < 1e-5
    other = fitted["test"].gather(torch.arange(40)).x
    assert abs(other.mean().item()) > 1e-5  # by the training images, not by its own
    with pytest.raises(InputError, match=r"Set training\.normalizer to one of: unit, fitted, raw"):
        load(store, TASK, normalizer="published")


def test_pixels_stay_bytes(store):
    samples = load(store, TASK, normalizer="unit")["train"]
    assert samples.units.values.dtype == torch.uint8
    assert samples.gather(torch.tensor([3])).x.dtype == torch.float32


def test_other_tasks_are_refused(store):
    with pytest.raises(InputError, match="'phenotyping' is not a task of the cohort"):
        load(store, get("phenotyping"), normalizer="raw")


def test_a_model_has_an_output_for_each_class(tmp_path, store):
    assert store.spec.task(TASK.name).num_outputs == 10
    two = import_images(write_pictures(tmp_path / "pictures"), tmp_path / "store")
    assert two.spec.task(TASK.name).num_outputs == 2


def test_a_second_import_does_nothing_and_new_images_replace_the_store(source, tmp_path):
    out = tmp_path / "store"
    first = import_images(source, out, validation=20)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    assert import_images(source, out, validation=20).manifest == first.manifest
    assert before == {
        p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"
    }
    changed = import_images(source, out, validation=30)
    assert changed.manifest["fingerprint"] != first.manifest["fingerprint"]
    assert not changed.changed_files()
    assert all((out / n).stat().st_mode & 0o077 == 0 for n in changed.manifest["files"])


def test_the_fingerprint_does_not_depend_on_the_folder(source, store, tmp_path):
    again = import_images(source, tmp_path / "elsewhere", validation=20)
    assert again.manifest["fingerprint"] == store.manifest["fingerprint"]


def test_invalid_options_and_targets_are_refused(source, tmp_path):
    with pytest.raises(InputError, match="of 120 training images cannot be used for validation"):
        import_images(source, tmp_path / "a", validation=120)
    with pytest.raises(InputError, match="10,000 of 120 training images"):
        import_images(source, tmp_path / "a")  # the paper's split needs the paper's images
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty and is not a store"):
        import_images(source, tmp_path / "b", validation=20)
    with locked(tmp_path / "c"), pytest.raises(MimicRegError, match="Another run is writing"):
        import_images(source, tmp_path / "c", validation=20)


def test_a_cohort_store_is_not_replaced(source, tmp_path):
    from tests.stores import write_store

    folder = write_store(tmp_path / "cohort", num_subjects=10)
    with pytest.raises(InputError, match="is a cohort store; images would replace it"):
        import_images(source, folder, validation=20)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json is damaged, or is not the manifest of a"):
        import_images(source, tmp_path / "damaged", validation=20)


def test_labels_that_do_not_match_the_images_are_refused(tmp_path):
    folder = write_fashion_mnist(tmp_path / "source")
    path = folder / "train-labels-idx1-ubyte.gz"
    write_idx(path, np.where(np.arange(120) < 10, read_idx(path), 10).astype(np.uint8))
    with pytest.raises(InputError, match="the part 'train' has a label outside 0 to 9"):
        import_images(folder, tmp_path / "a", validation=20)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(7, np.uint8))
    with pytest.raises(InputError, match="120 images but 7 labels"):
        import_images(folder, tmp_path / "a", validation=20)


def test_a_store_with_a_broken_table_is_refused(source, tmp_path):
    out = tmp_path / "store"
    store = import_images(source, out, validation=20)
    path = out / "tasks/image_classification.parquet"
    table = pl.read_parquet(path)
    for wrong in (
        table.with_columns(image=pl.lit(999, pl.Int32)),
        table.with_columns(y=pl.lit(99, pl.Int16)),
    ):
        wrong.write_parquet(path)
        entry = {"bytes": path.stat().st_size, "xxh3": file_hash(path)}
        store.manifest["files"]["tasks/image_classification.parquet"] = entry
        with pytest.raises(InputError, match="names images or classes that are not there"):
            load(Store(out, store.manifest), TASK, normalizer="unit")


def test_commands_for_cohorts_refuse_images(source, tmp_path):
    store = import_images(source, tmp_path / "store", validation=20)
    for function in (verify_published, lambda s: export(s, tmp_path / "x")):
        with pytest.raises(InputError, match="holds the cohort 'fashion_mnist'; this command is"):
            function(store)


@pytest.mark.parametrize("write", [write_fashion_mnist, write_cifar_binary, write_stl])
@pytest.mark.parametrize("damage", [b"", b"x"])
def test_images_that_change_while_they_are_read(tmp_path, monkeypatch, write, damage):
    """Even if the change made the content unreadable."""
    folder = write(tmp_path / "source")
    changing = files(folder)[0]

    def read_and_change(*arguments):
        changing.write_bytes(changing.read_bytes() + damage)
        return read(*arguments)

    monkeypatch.setattr(images, "read", read_and_change)
    with pytest.raises(MimicRegError, match=f"{changing.name} changed while it was read") as error:
        import_images(folder, tmp_path / "store", validation=20)
    assert not isinstance(error.value, InputError)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("write", [write_fashion_mnist, write_cifar_binary, write_stl])
def test_changes_of_every_file_are_detected(tmp_path, write):
    folder = write(tmp_path / "source")
    watched = files(folder)
    for path in set(folder.iterdir()) - set(watched):
        path.unlink()
    read(folder)  # needs no other file, and every one of these
    for path in watched:
        path.rename(folder / "away")
        with pytest.raises(InputError):
            read(folder)
        (folder / "away").rename(path)
