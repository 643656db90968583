import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Subset

from samples.classification.datasets import fingerprint
from samples.classification.datasets import load_dataset

CLASSES = [f"class{i}" for i in range(10)]


def write_images(folder: Path, classes: list[str], *, per_class: int, size: tuple[int, int]) -> None:
    """PNG files of one grey each: 10 times the class, plus the number of the image."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", size, (10 * number + i,) * 3).save(folder / name / f"{i}.png")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


def write_fashion_mnist(folder: Path, *, compressed: bool) -> np.ndarray:
    """Tiny files in the real format; returns the images of the test set."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for kind, count in (("train", 20), ("t10k", 6)):
        images = rng.integers(0, 256, (count, 28, 28))
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            content = idx(array)
            path = folder / f"{kind}-{name}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    return images


def test_digits_are_split_the_same_way_every_time_with_all_classes_in_proportion():
    train, test, info = load_dataset("digits")
    again = load_dataset("digits")[1]
    # A fifth of 1,797 images.
    assert (len(train), len(test)) == (1437, 360)
    assert torch.equal(test.images, again.images)
    assert (test.labels.bincount() - 36).abs().max() <= 2
    assert info.num_classes == 10
    assert train[0][0].shape == test[0][0].shape == info.sample_shape == (1, 8, 8)


def test_digits_are_normalised():
    train, _, _ = load_dataset("digits")
    train.max_shift = 0
    images = torch.stack([image for image, _ in train])
    assert images.mean().item() == pytest.approx(0, abs=0.01)
    assert images.std().item() == pytest.approx(1, abs=0.01)


def test_training_digits_move_by_one_pixel_at_most_and_test_digits_stay():
    train, test, _ = load_dataset("digits")
    plain, _ = train[5]
    train.max_shift = 0
    original, _ = train[5]
    train.max_shift = 1
    torch.manual_seed(0)
    seen = {tuple(train[5][0].flatten().tolist()) for _ in range(200)}
    black = original.min()
    padded = torch.nn.functional.pad(original, [1] * 4, value=float(black))
    shifts = {tuple(padded[:, y : y + 8, x : x + 8].flatten().tolist()) for x in range(3) for y in range(3)}
    assert plain.shape == original.shape
    assert seen == shifts
    assert torch.equal(test[5][0], test[5][0])


def test_batches_hold_the_samples():
    _, test, _ = load_dataset("digits")
    images, labels = next(iter(DataLoader(test, batch_size=16)))
    for i in range(16):
        image, label = test[i]
        assert torch.equal(images[i], image)
        assert labels[i] == label == test.labels[i]
    part, _ = next(iter(DataLoader(Subset(test, [3, 1]), batch_size=2)))
    assert torch.equal(part, images[[3, 1]])
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("below", [".", "FashionMNIST/raw"])
def test_fashion_mnist_is_read_in_every_layout(tmp_path: Path, compressed: bool, below: str):
    expected = write_fashion_mnist(tmp_path / "root" / below, compressed=compressed)
    train, test, info = load_dataset("fashion-mnist", tmp_path / "root")
    assert (len(train), len(test)) == (20, 6)
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(test[4][0][0], (expected[4] / 255 - 0.2860) / 0.3530, atol=1e-5)
    assert train[0][0].shape == info.sample_shape


def test_fashion_mnist_says_where_its_files_belong(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        load_dataset("fashion-mnist", tmp_path)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\x89PNG" + content, lambda _: b""])
def test_damaged_idx_file_is_refused_by_name(tmp_path: Path, damage):
    write_fashion_mnist(tmp_path / "root", compressed=False)
    path = tmp_path / "root" / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="t10k-images"):
        load_dataset("fashion-mnist", tmp_path / "root")


def test_cifar10_is_read_from_image_files(tmp_path: Path):
    write_images(tmp_path / "train", CLASSES, per_class=3, size=(32, 32))
    write_images(tmp_path / "test", CLASSES, per_class=1, size=(32, 32))
    train, test, info = load_dataset("cifar10", tmp_path)
    assert (len(train), len(test)) == (30, 10)
    assert test.labels.tolist() == list(range(10))
    image, label = test[7]
    assert label == 7
    assert image.shape == train[0][0].shape == info.sample_shape
    for channel, (mean, std) in enumerate(zip(info.mean, info.std, strict=True)):
        assert image[channel].unique().item() == pytest.approx((70 / 255 - mean) / std, abs=1e-5)


def test_cifar10_is_read_from_the_batches_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.CIFAR10._load_meta", lambda self: None)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072)).astype(np.uint8)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [3, 9]}))
    for root in (tmp_path, folder):
        train, test, _ = load_dataset("cifar10", root)
        assert (len(train), len(test)) == (10, 2)
        assert test.labels.tolist() == [3, 9]
        assert torch.equal(test.images, torch.from_numpy(pixels.reshape(2, 3, 32, 32)))


def test_cifar10_of_another_size_or_number_of_classes_is_refused(tmp_path: Path):
    for part in ("train", "test"):
        write_images(tmp_path / "big" / part, CLASSES, per_class=1, size=(40, 32))
        write_images(tmp_path / "few" / part, CLASSES[:9], per_class=1, size=(32, 32))
    with pytest.raises(ValueError, match=r"0\.png has the shape \(3, 32, 40\)"):
        load_dataset("cifar10", tmp_path / "big")
    with pytest.raises(ValueError, match="9 folders of classes"):
        load_dataset("cifar10", tmp_path / "few")


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_image_folder_is_cut_to_squares(tmp_path: Path, held_out: str):
    write_images(tmp_path / "train", ["cat", "dog", "owl"], per_class=2, size=(50, 40))
    write_images(tmp_path / held_out, ["cat", "dog", "owl"], per_class=1, size=(30, 60))
    train, test, info = load_dataset("imagefolder", tmp_path, image_size=24)
    assert (len(train), len(test)) == (6, 3)
    assert (info.num_classes, info.sample_shape) == (3, (3, 24, 24))
    assert train[0][0].shape == test[0][0].shape == (3, 24, 24)
    assert [test[i][1] for i in range(3)] == [0, 1, 2]


def test_image_folder_is_normalised_as_asked_for(tmp_path: Path):
    for part in ("train", "val"):
        write_images(tmp_path / part, ["cat"], per_class=1, size=(9, 9))
    _, usual, _ = load_dataset("imagefolder", tmp_path, image_size=8)
    _, other, info = load_dataset(
        "imagefolder", tmp_path, image_size=8, normalization={"mean": [0.5] * 3, "std": [2] * 3}
    )
    image = usual[0][0] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    image += torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    torch.testing.assert_close(other[0][0], (image - 0.5) / 2)
    assert (info.mean, info.std) == ((0.5, 0.5, 0.5), (2, 2, 2))


def test_image_folder_with_other_classes_or_folders_is_refused(tmp_path: Path):
    write_images(tmp_path / "train", ["cat", "dog"], per_class=1, size=(9, 9))
    with pytest.raises(FileNotFoundError, match="val/CLASS"):
        load_dataset("imagefolder", tmp_path)
    write_images(tmp_path / "val", ["cat", "owl"], per_class=1, size=(9, 9))
    with pytest.raises(ValueError, match="different classes"):
        load_dataset("imagefolder", tmp_path)


def test_bad_requests_name_what_is_allowed(tmp_path: Path):
    with pytest.raises(ValueError, match="digits, fashion-mnist, cifar10, imagefolder"):
        load_dataset("mnist")
    with pytest.raises(ValueError, match="size 8 only"):
        load_dataset("digits", image_size=32)
    with pytest.raises(ValueError, match="digits has one of its own"):
        load_dataset("digits", normalization={"mean": [0.5], "std": [0.5]})
    for name in ("cifar10", "imagefolder"):
        with pytest.raises(FileNotFoundError, match=name):
            load_dataset(name)
        with pytest.raises(FileNotFoundError):
            load_dataset(name, tmp_path)


def test_a_fingerprint_is_that_of_the_files_whatever_the_variation_and_changes_with_labels_and_images():
    train, test, _ = load_dataset("digits")
    state = torch.get_rng_state()
    assert fingerprint(train) == fingerprint(load_dataset("digits")[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert fingerprint(test)["samples"] == 360
    seen = {fingerprint(test)["sha256"]}
    test.labels[1] += 1
    seen.add(fingerprint(test)["sha256"])
    test.images[0] += 1
    seen.add(fingerprint(test)["sha256"])
    assert len(seen) == 3
