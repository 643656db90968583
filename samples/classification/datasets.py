"""
The data sets of the classification sample.

Those of small images are held in memory as bytes and made into batches at once, so that an epoch costs little more than
the model does.
"""

import gzip
import hashlib
import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.datasets import ImageFolder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DATASETS = ("digits", "fashion-mnist", "cifar10", "imagefolder")
# Of a fingerprint.
_IMAGES = 100


@dataclass(frozen=True)
class DatasetInfo:
    """
    What a model needs to know of a data set.

    :param num_classes: Number of classes.
    :param sample_shape: Channels, height and width of one sample.
    :param mean: Subtracted from each channel of an image whose values are from 0 to 1.
    :param std: What each channel is divided by then.
    """

    num_classes: int
    sample_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ImagesInMemory(Dataset):
    """
    Images of one size, normalised and varied when they are read.

    :param images: Shape ``(N, C, H, W)``, uint8.
    :param labels: Shape ``(N,)``, int64.
    :param info: Mean and standard deviation are taken from here.
    :param white: The byte that stands for 1.
    :param max_shift: Samples are moved by up to so many pixels in each direction; black moves in.
    :param flip: Mirrors half of the samples.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        info: DatasetInfo,
        *,
        white: int = 255,
        max_shift: int = 0,
        flip: bool = False,
    ):
        self.images = images
        self.labels = labels
        self.max_shift = max_shift
        self.flip = flip
        std = torch.tensor(info.std).view(-1, 1, 1)
        self._factor = 1 / (white * std)
        self._offset = -torch.tensor(info.mean).view(-1, 1, 1) / std

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """What a DataLoader calls: all samples of a batch."""
        images = self.images[torch.as_tensor(indices)]
        if self.max_shift:
            images = _shift(images, self.max_shift)
        if self.flip:
            images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
        images = images * self._factor + self._offset
        return list(zip(images, self.labels[torch.as_tensor(indices)].tolist(), strict=True))


def load_dataset(
    name: str,
    data_dir: Path | str | None = None,
    *,
    image_size: int | None = None,
    normalization: Mapping[str, Sequence[float]] | None = None,
) -> tuple[Dataset, Dataset, DatasetInfo]:
    """
    Loads a data set; nothing is downloaded.

    :param name: One of ``DATASETS``.
    :param data_dir: Where the files are; not needed for ``digits``.
    :param image_size: Side of the samples of ``imagefolder``, 224 if not given; the others have a size of their own.
    :param normalization: ``mean`` and ``std`` of the channels of ``imagefolder``, ImageNet's if not given; the others
        have their own.
    :return: The training set, with random variation; the test set, without; and their description.
    :raises ValueError: If the name is unknown or the files are not of this data set.
    :raises FileNotFoundError: If there are no files; the text says where they belong.
    """
    loaders = {"digits": _digits, "fashion-mnist": _fashion_mnist, "cifar10": _cifar10}
    if name == "imagefolder":
        return _image_folder(
            _folder(name, data_dir), image_size or 224, **normalization or {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        )
    if name not in loaders:
        raise ValueError(f"There is no data set {name!r}; there are: {', '.join(DATASETS)}.")
    if normalization is not None:
        raise ValueError(f"normalization={normalization}: {name} has one of its own; leave it out.")
    train, test, info = loaders[name](data_dir)
    if image_size not in (None, info.sample_shape[-1]):
        raise ValueError(f"image_size={image_size}: {name} has images of size {info.sample_shape[-1]} only.")
    return train, test, info


def evenly_spread(dataset: Dataset, count: int | None) -> Dataset:
    """Returns ``count`` samples, or all; evenly spread, because those of a folder are in the order of their classes."""
    if count is None or count >= len(dataset):
        return dataset
    return Subset(dataset, torch.linspace(0, len(dataset) - 1, count).long().tolist())


def fingerprint(dataset: ImagesInMemory | ImageFolder) -> dict[str, Any]:
    """Returns the number of samples, and a hash of all labels and a hundred images: what tells data sets apart."""
    chosen = torch.linspace(0, len(dataset) - 1, min(_IMAGES, len(dataset))).long().tolist()
    if isinstance(dataset, ImagesInMemory):
        labels, images = dataset.labels.tolist(), dataset.images[chosen].contiguous().numpy().tobytes()
    else:
        labels, images = dataset.targets, b"".join(Path(dataset.samples[index][0]).read_bytes() for index in chosen)
    return {"samples": len(dataset), "sha256": hashlib.sha256(repr(labels).encode() + images).hexdigest()}


def _digits(_: object) -> tuple[Dataset, Dataset, DatasetInfo]:
    """1,797 digits of 8x8 pixels, bundled with scikit-learn; the test set is a fixed fifth of each class."""
    info = DatasetInfo(10, (1, 8, 8), (0.3053,), (0.3760,))
    digits = load_digits()
    parts = train_test_split(digits.images, digits.target, test_size=0.2, stratify=digits.target, random_state=0)
    train_images, test_images = (torch.from_numpy(part).to(torch.uint8)[:, None] for part in parts[:2])
    train_labels, test_labels = (torch.from_numpy(part).long() for part in parts[2:])
    train = ImagesInMemory(train_images, train_labels, info, white=16, max_shift=1)
    return train, ImagesInMemory(test_images, test_labels, info, white=16), info


def _fashion_mnist(data_dir: Path | str | None) -> tuple[Dataset, Dataset, DatasetInfo]:
    """70,000 pictures of clothes, 28x28 pixels, in the idx files that torchvision and Debian use."""
    info = DatasetInfo(10, (1, 28, 28), (0.2860,), (0.3530,))
    root = DEBIAN_FASHION_MNIST if data_dir is None else Path(data_dir)
    parts = []
    for kind in ("train", "t10k"):
        images = torch.from_numpy(_read_idx(root, f"{kind}-images-idx3-ubyte"))[:, None]
        labels = torch.from_numpy(_read_idx(root, f"{kind}-labels-idx1-ubyte")).long()
        parts.append((images, labels))
    return ImagesInMemory(*parts[0], info, max_shift=2, flip=True), ImagesInMemory(*parts[1], info), info


def _read_idx(root: Path, name: str) -> np.ndarray:
    """Reads an idx file of bytes, compressed or not, from ``root`` or from torchvision's folder below it."""
    places = [folder / (name + end) for folder in (root, root / "FashionMNIST" / "raw") for end in ("", ".gz")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{name}[.gz] is neither in {root} nor in {root / 'FashionMNIST' / 'raw'}. Put Fashion-MNIST's four files "
            f"there; Debian's package dataset-fashion-mnist installs them in {DEBIAN_FASHION_MNIST}."
        )
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions, their sizes as big-endian int32, the values.
    num_dims = content[3] if content[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * num_dims
    shape = np.frombuffer(content[4:start], ">i4")
    if not num_dims or len(content) != start + math.prod(shape.tolist()):
        raise ValueError(f"{path} is no whole idx file of bytes.")
    return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)


def _cifar10(data_dir: Path | str | None) -> tuple[Dataset, Dataset, DatasetInfo]:
    """60,000 photographs of 32x32 pixels, as image files or as the batches that torchvision reads."""
    info = DatasetInfo(10, (3, 32, 32), IMAGENET_MEAN, IMAGENET_STD)
    root = _folder("cifar10", data_dir)
    batches = root.parent if root.name == CIFAR10.base_folder else root
    if (root / "train").is_dir() and (root / "test").is_dir():
        parts = [_read_images(root / part, info) for part in ("train", "test")]
    elif (batches / CIFAR10.base_folder).is_dir():
        sets = [CIFAR10(batches, train=train) for train in (True, False)]
        parts = [(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets)) for part in sets]
    else:
        raise FileNotFoundError(
            f"{root} has neither the folders train/CLASS/*.jpg and test/CLASS/*.jpg nor {CIFAR10.base_folder}/."
        )
    return ImagesInMemory(*parts[0], info, max_shift=4, flip=True), ImagesInMemory(*parts[1], info), info


def _read_images(folder: Path, info: DatasetInfo) -> tuple[Tensor, Tensor]:
    """Decodes all images of ``folder/CLASS/``; the classes are numbered in the order of their names."""
    dataset = ImageFolder(folder, transform=transforms.PILToTensor())
    if len(dataset.classes) != info.num_classes:
        raise ValueError(f"{folder} has {len(dataset.classes)} folders of classes and must have {info.num_classes}.")
    images = torch.empty((len(dataset), *info.sample_shape), dtype=torch.uint8)
    for index, (image, _) in enumerate(dataset):
        if image.shape != info.sample_shape:
            raise ValueError(f"{dataset.imgs[index][0]} has the shape {tuple(image.shape)}, not {info.sample_shape}.")
        images[index] = image
    return images, torch.tensor(dataset.targets)


def _image_folder(
    root: Path, size: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Dataset, Dataset, DatasetInfo]:
    """Photographs of any size in train/CLASS/ and val/CLASS/ or test/CLASS/, cut to squares as usual for ImageNet."""
    held_out = next((root / part for part in ("val", "test") if (root / part).is_dir()), None)
    if held_out is None or not (root / "train").is_dir():
        raise FileNotFoundError(f"{root} must have the folders train/CLASS/ and val/CLASS/ (or test/CLASS/).")
    normalise = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    varied = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    # 224 pixels are cut from an image whose short side is 256.
    centred = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
    train = ImageFolder(root / "train", transforms.Compose(varied + normalise))
    test = ImageFolder(held_out, transforms.Compose(centred + normalise))
    if train.classes != test.classes:
        raise ValueError(f"train/ and {held_out.name}/ of {root} have different classes.")
    return train, test, DatasetInfo(len(train.classes), (3, size, size), tuple(mean), tuple(std))


def _folder(name: str, data_dir: Path | str | None) -> Path:
    if data_dir is None or not Path(data_dir).is_dir():
        raise FileNotFoundError(f"{name} needs the folder of its files; {data_dir} is none.")
    return Path(data_dir)


def _shift(images: Tensor, most: int) -> Tensor:
    """Moves each image of ``(N, C, H, W)`` by its own whole number of pixels, up to ``most`` down or right or back."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [most] * 4)
    rows = torch.randint(2 * most + 1, (count, 1, 1)) + torch.arange(height)[:, None]
    columns = torch.randint(2 * most + 1, (count, 1, 1)) + torch.arange(width)
    # Indices around a slice put the channels last.
    return padded[torch.arange(count)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
