"""The data loader and criterion that a script registered with ``register_default_init_args``."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from nncf import NNCFConfig
from nncf.config.structures import QuantizationRangeInitArgs
from nncf.torch.initialization import wrap_dataloader_for_init
from nncf.torch.nested_objects_traversal import objwalk
from nncf.torch.structures import QuantizationPrecisionInitArgs
from nncf.torch.utils import get_model_device
from nncf.torch.utils import is_tensor
from torch import Tensor
from torch import nn

from llt_nncf.errors import MissingInitArgsError


class InitBatches:
    """
    Batches of a registered loader, and what to do with each.

    :param loader: A ``DataLoader`` of (input, target) pairs, or NNCF's ``PTInitializingDataLoader``.
    :param criterion_fn: ``criterion_fn(outputs, target, criterion)``.
    :param criterion: The loss.
    :raises MissingInitArgsError: If the loader is empty.
    """

    def __init__(self, loader: Any, criterion_fn: Any = None, criterion: Any = None):
        try:
            self._loader = wrap_dataloader_for_init(loader)
        except StopIteration:
            msg = "The registered data loader gives no batch: it has fewer samples than batch_size, with drop_last."
            raise MissingInitArgsError(msg) from None
        # NNCF's wrapper hides what it wraps.
        self._registered = getattr(self._loader, "_data_loader", self._loader)
        self._criterion_fn = criterion_fn
        self._criterion = criterion

    @classmethod
    def for_training(cls, config: NNCFConfig) -> "InitBatches":
        """
        Takes the loader and criterion that importance training needs.

        :raises MissingInitArgsError: If none were registered; says how.
        """
        try:
            args = config.get_extra_struct(QuantizationPrecisionInitArgs)
        except KeyError:
            msg = (
                "Importance training runs inside create_compressed_model and needs data and a loss: call "
                "nncf_config = register_default_init_args(nncf_config, train_loader, criterion=criterion) before it; "
                'or set compression.importance.where to "training" and train in your own loop.'
            )
            raise MissingInitArgsError(msg) from None
        return cls(args.data_loader, args.criterion_fn, args.criterion)

    @classmethod
    def for_statistics(cls, config: NNCFConfig) -> "InitBatches":
        """
        Takes the loader of the range initialisation.

        :raises MissingInitArgsError: If none was registered; says how.
        """
        try:
            return cls(config.get_extra_struct(QuantizationRangeInitArgs).data_loader)
        except KeyError:
            msg = (
                "The quantizers need data to start from: call nncf_config = register_default_init_args(nncf_config, "
                "train_loader, criterion=criterion) before create_compressed_model."
            )
            raise MissingInitArgsError(msg) from None

    @property
    def batch_size(self) -> int:
        """Samples in a batch; 1 if the loader does not say it."""
        return getattr(self._loader, "batch_size", None) or 1

    def check_batch_size(self) -> None:
        """
        Checks that NNCF can tell how many batches some samples are.

        :raises MissingInitArgsError: If the loader does not say its batch size.
        """
        if getattr(self._loader, "batch_size", None) is None:
            msg = (
                "The registered data loader has no batch_size, by which NNCF counts samples: register a DataLoader "
                "with batch_size (and a sampler in place of a batch_sampler), or a subclass of "
                "nncf.torch.initialization.PTInitializingDataLoader whose batch_size says it."
            )
            raise MissingInitArgsError(msg)

    @property
    def sampler(self) -> Any:
        """The loader's sampler, whose epoch and generator importance training sets; ``None`` if it has none."""
        return getattr(self._registered, "sampler", None)

    @property
    def batch_sampler(self) -> Any:
        """The loader's batch sampler, likewise."""
        return getattr(self._registered, "batch_sampler", None)

    @property
    def generator(self) -> torch.Generator | None:
        """The loader's own generator, which belongs to a checkpoint of importance training."""
        return getattr(self._registered, "generator", None)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """Calls the model with a batch, on the model's device."""
        to_device = partial(torch.Tensor.to, device=get_model_device(model))
        args, kwargs = objwalk(self._loader.get_inputs(batch), is_tensor, to_device)
        return model(*args, **kwargs)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Calls the model with a batch and returns the criterion's loss."""
        outputs = self.forward(model, batch)
        to_device = partial(torch.Tensor.to, device=get_model_device(model))
        target = objwalk(self._loader.get_target(batch), is_tensor, to_device)
        return self._criterion_fn(outputs, target, self._criterion)
