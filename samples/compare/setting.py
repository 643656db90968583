"""What every task of a comparison works with: the data, the float model, and the model with quantizers."""

import copy
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401  registers llt_quantization; before nncf.torch

# isort: split

import torch
from datasets import DatasetInfo
from datasets import evenly_spread
from datasets import fingerprint
from datasets import load_dataset
from models import build_model
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from plan import ANY_POLICY
from plan import Plan
from torch import Tensor
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset

from llt_nncf.artifacts import LayerTable

# Every bit-width that a policy of any method may have.
POLICY_BITS = (8, 7, 6, 5, 4, 3, 2)


@dataclass(frozen=True)
class Setting:
    """
    Where and on what a comparison runs.

    :param plan: What is compared.
    :param out: Folder of all files.
    :param data: Folder of the data set, if it needs one.
    :param weights: Of the float model, a ``.safetensors`` file.
    :param train_samples: So many samples of the training set are used, evenly spread; all, if not given.
    :param test_samples: The same of the test set.
    :param device: Where models with our quantizers are trained; rivals work on the CPU.
    """

    plan: Plan
    out: Path
    data: Path | None
    weights: Path | None
    train_samples: int | None = None
    test_samples: int | None = None
    device: str = "cpu"

    @cached_property
    def _whole_datasets(self) -> tuple[Dataset, Dataset, DatasetInfo]:
        return load_dataset(self.plan.dataset, self.data)

    @property
    def data_fingerprint(self) -> dict[str, Any]:
        """What tells the data from others, by ``train`` and ``test``."""
        train, test, _ = self._whole_datasets
        return {"train": fingerprint(train), "test": fingerprint(test)}

    @cached_property
    def _datasets(self) -> tuple[Dataset, Dataset, DatasetInfo]:
        train, test, info = self._whole_datasets
        return evenly_spread(train, self.train_samples), evenly_spread(test, self.test_samples), info

    def loader(self, seed: int) -> DataLoader:
        """Returns the training set in batches; order and variation depend on ``seed`` alone."""
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(
            self._datasets[0], self.plan.finetuning.batch_size, shuffle=True, drop_last=True, generator=generator
        )

    def float_model(self) -> nn.Module:
        """Returns the model that all methods start from, channels last: a third faster on CPUs."""
        _, _, info = self._datasets
        torch.manual_seed(0)  # of the weights, if none are given
        model = build_model(
            self.plan.model, num_classes=info.num_classes, in_channels=info.sample_shape[0], weights=self.weights
        )
        return model.to(memory_format=torch.channels_last)

    def compress(self, section: dict[str, Any], seed: int) -> tuple[Any, nn.Module]:
        """
        Puts quantizers into the float model.

        :param section: Added to the plan's section, whose keys it replaces.
        :param seed: Of the order of the data that the initialisation sees.
        :return: Controller and model, as of ``create_compressed_model``.
        """
        torch.manual_seed(seed)
        config = NNCFConfig.from_dict(
            {
                "target_device": "CPU",
                "input_info": {"sample_size": [1, *self._datasets[2].sample_shape]},
                "compression": {**copy.deepcopy(dict(self.plan.compression)), **section},
            }
        )
        config = register_default_init_args(config, self.loader(seed), criterion=nn.CrossEntropyLoss())
        return create_compressed_model(self.float_model().to(self.device), config, dump_graphs=False)

    def write_indicators(self, importance: dict[str, Any], folder: Path, seed: int) -> None:
        """Leaves the layers and their indicators in ``folder``; the budget is one that every policy meets."""
        self.compress({"importance": importance, "budget": ANY_POLICY, "artifacts_dir": str(folder)}, seed)

    @cached_property
    def layers(self) -> LayerTable:
        """The layers with the candidates of the plan; made once, and kept in a file."""
        path = self.out / "layers" / "layers.json"
        if not path.exists():
            self.write_indicators({"indicator": "statistics"}, path.parent, seed=0)
        return LayerTable.load(path)

    @cached_property
    def layers_of_any_bits(self) -> LayerTable:
        """The layers with all bit-widths where bits are searched, for methods with candidates of their own."""
        rows = []
        for layer in self.layers.layers:
            searched = [kind for kind in ("weight_bits", "activation_bits") if len(getattr(layer, kind)) > 1]
            rows.append(dataclasses.replace(layer, **dict.fromkeys(searched, POLICY_BITS)))
        return LayerTable(tuple(rows))

    @torch.no_grad()
    def top1(self, model: nn.Module) -> float:
        """Returns the top-1 accuracy on the test set in percent; the model is left in evaluation mode."""
        model.eval()
        correct = total = 0
        for images, target in DataLoader(self._datasets[1], 250):
            outputs = model(for_model(images, model))
            correct += int((outputs.argmax(1).cpu() == target).sum())
            total += len(target)
        return 100 * correct / total


def for_model(images: Tensor, model: nn.Module) -> Tensor:
    """Returns a batch on the model's device, channels last as the model."""
    return images.to(next(model.parameters()).device, memory_format=torch.channels_last)
