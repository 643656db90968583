"""Models that compute something else in training: whether every quantizer still stands where it belongs."""

from itertools import zip_longest
from typing import Any

import torch
from nncf.common.logging import nncf_logger
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.utils import get_model_device
from torch import nn

from llt_nncf.adapter.init_batches import InitBatches
from llt_nncf.adapter.teacher import without_teacher
from llt_nncf.errors import StageError
from llt_nncf.functional import training_mode
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import open_quantizers
from llt_nncf.indicators.random_state import random_state
from llt_nncf.indicators.random_state import set_random_state
from llt_nncf.quantizers import SwitchableQuantizer


@torch.no_grad()
def check_training_branches(model: NNCFNetwork, quantizers: QuantizerSet, batches: InitBatches) -> None:
    """
    Runs one batch in evaluation and in training mode, and compares which quantizers it passes.

    NNCF sees the model in evaluation mode, and tells the calls of a function within a module by counting them. Where
    ``if self.training`` guards functions in front of others of the same name, it puts the quantizers of these on those.

    :param model: The compressed model; its mode and all generators are restored, so that training is as without this.
    :param quantizers: Its quantizers.
    :param batches: One of them is run; a model that does not take it in training mode is left alone.
    :raises StageError: If training passes a quantizer that evaluation does not pass there; it is named.
    """
    device = get_model_device(model)
    before = random_state(batches, device)
    try:
        batch = next(iter(batches))
        in_evaluation = _passed(model, quantizers, batches, batch, training=False)
        try:
            in_training = _passed(model, quantizers, batches, batch, training=True)
        except Exception as error:
            # Training may need more than the registered batches have, for example targets.
            nncf_logger.debug(f"llt_quantization: the model in training mode does not take the batch: {error}")
            return
    finally:
        set_random_state(before, batches, device)
    rest = iter(in_evaluation)
    if not all(quantizer in rest for quantizer in in_training):  # Evaluation may pass some more.
        stray = next(a for a, b in zip_longest(in_training, in_evaluation) if a is not b)
        names = {core: name for group in (quantizers.weights, quantizers.activations) for name, core in group.items()}
        msg = (
            f"In training the quantizer {names[stray]!r} stands elsewhere than in evaluation: the forward pass "
            "branches on self.training, and NNCF tells the calls of a function in a module by counting them. Put what "
            "only training computes into a module of its own, or at the end of forward."
        )
        raise StageError(msg)


def _passed(
    model: NNCFNetwork, quantizers: QuantizerSet, batches: InitBatches, batch: Any, *, training: bool
) -> list[SwitchableQuantizer]:
    passed: list[SwitchableQuantizer] = []
    note = open_quantizers(quantizers, lambda quantizer, _: passed.append(quantizer))
    with without_teacher(model), training_mode(model, training), note:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()  # Its statistics stay as they are, and one sample is enough.
        batches.forward(model, batch)
    return passed
