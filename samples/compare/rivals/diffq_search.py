"""
DiffQ, Défossez et al., TMLR 2022, arXiv:2104.09987: bits per group of weights, learned by pseudo quantization noise.

The package is ``diffq-fixed`` 0.2.4, whose licence (CC BY-NC 4.0) forbids commercial use; nothing of it is here. DiffQ
trains weights and bits together and knows no budget: its loss has a penalty on the size. Here the penalty's weight is
controlled during the training: it grows while the model is larger than a target that falls linearly to the wanted size,
and shrinks while it is smaller. For the rest of the training the bits are held, after one constant was added to all of
them so that the size is met, rounding included.

Only weights are quantized; activations stay in float in the native model, and get 8 bits in the policy.
"""

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost.layer_cost import MIB_BITS
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import some_of

from .choice import RivalChoice
from .choice import is_within
from .choice import limits_by_kind
from .choice import required
from .choice import seeded
from .choice import share_note

_SUFFIX = "_diffq"
_GROUP_SIZE = 8
_MIN_BITS = 2
_MAX_BITS = 8
_ACTIVATION_BITS = 8
# Of the training: until then the target falls to the wanted size; until then the bits are learned.
_FALLING, _LEARNING = 0.5, 0.75
# Of the penalty's logarithm, per part that the size is off its target: kept and added up, and of the moment.
_KEPT, _OF_THE_MOMENT = 0.2, 20.0


@dataclass(frozen=True)
class DiffqModel:
    """
    What DiffQ's own training ends with.

    :param model: In eval mode it computes with the quantized weights, in train mode with noise.
    :param layer_bits: Layer name to the mean bits of its weights.
    :param weight_mib: Size of the weights at their bits, as our count is made: without what says which group has how
        many bits, scales, biases and batch norms.
    :param true_mib: DiffQ's own count, ``true_model_size``, with all of these.
    :param passes: Forward and backward passes of one batch.
    """

    model: nn.Module
    layer_bits: dict[str, float]
    weight_mib: float
    true_mib: float
    passes: int


def choose(
    model: nn.Module,
    table: LayerTable,
    budget: Budget,
    loader: DataLoader,
    criterion: Any,
    *,
    seed: int,
    epochs: int = 2,
    lr: float = 0.01,
) -> RivalChoice:
    """
    Chooses weight bits by DiffQ's training; activations have 8 bits.

    :param model: The float model; a copy is trained.
    :param table: The layers.
    :param budget: At least a limit on the weights' size.
    :param loader: Batches of (images, labels), of the training set.
    :param criterion: The loss, of (outputs, labels).
    :param seed: Of the noise.
    :param epochs: Length of the training.
    :param lr: Learning rate of the weights.
    :raises MissingDependencyError: If DiffQ is not installed.
    :raises InfeasibleBudgetError: If the budget has no limit on the size, not even the fewest bits are within it, or
        8 bits are no candidate of an activation.
    """
    required("diffq", "diffq-fixed")
    without = [layer.name for layer in table.layers if _ACTIVATION_BITS not in layer.activation_bits]
    if without:
        msg = (
            f"DiffQ leaves activations at {_ACTIVATION_BITS} bits, which is no candidate of {some_of(without, 3)}. "
            "Compare it where activations are fixed at 8 bits."
        )
        raise InfeasibleBudgetError(msg)
    least = _with_activations({layer.name: min(layer.weight_bits) for layer in table.layers}, table)
    wanted = limits_by_kind("DiffQ", table, budget)
    if "weight_bits" not in wanted:
        msg = f"DiffQ chooses weight bits for a size, and the budget ({', '.join(budget.names)}) limits none."
        raise InfeasibleBudgetError(msg)
    if not is_within(least, table, budget):
        msg = (
            f"DiffQ leaves activations at {_ACTIVATION_BITS} bits; even with the fewest weight bits the budget is not "
            f"met: {share_note(least, table, budget)} Raise the budget, or limit only the size."
        )
        raise InfeasibleBudgetError(msg)
    trained = train(model, table, wanted["weight_bits"] / MIB_BITS, loader, criterion, seed=seed, epochs=epochs, lr=lr)
    policy = policy_of(trained.layer_bits, table, budget)
    notes = (
        "Mean bits of each layer's groups of weights, rounded down to a candidate, then up where most was taken while "
        "the budget allows.",
        f"Its own model: {trained.weight_mib:.5f} MiB of weights at their bits; its count: {trained.true_mib:.5f} MiB.",
        share_note(policy, table, budget),
    )
    return RivalChoice(policy, trained.passes, notes)


def policy_of(layer_bits: dict[str, float], table: LayerTable, budget: Budget) -> BitPolicy:
    """
    Rounds mean bits to candidates within a budget: down, then up where most was taken, while the budget allows.

    Rounding down is not always enough, as fixed layers have other bits than DiffQ gave them; then one constant is taken
    off all means first, the least of 0, 1/16, 2/16 ... bits that is.

    :param layer_bits: Layer name to mean bits.
    :param table: The layers; those that are fixed keep their bits.
    :param budget: What the policy may cost; the fewest bits must be within it.
    :raises ArtifactError: If 8 bits are no candidate of an activation.
    """
    for sixteenths in range(16 * _MAX_BITS + 1):
        means = {name: mean - sixteenths / 16 for name, mean in layer_bits.items()}
        weights = {layer.name: _rounded_down(means[layer.name], layer) for layer in table.layers}
        policy = _with_activations(weights, table)
        if is_within(policy, table, budget):
            break
    for name in sorted(weights, key=lambda name: weights[name] - means[name]):
        above = [num_bits for num_bits in table.by_name[name].weight_bits if num_bits > weights[name]]
        if not above or means[name] <= weights[name]:
            continue
        raised = _with_activations({**weights, name: min(above)}, table)
        if is_within(raised, table, budget):
            weights[name], policy = min(above), raised
    policy.check(table)
    return policy


def _rounded_down(mean: float, layer: Layer) -> int:
    return max((num_bits for num_bits in layer.weight_bits if num_bits <= mean), default=min(layer.weight_bits))


def _with_activations(weights: dict[str, int], table: LayerTable) -> BitPolicy:
    bits = {layer.name: layer.uniform_bits(weights[layer.name], _ACTIVATION_BITS) for layer in table.layers}
    return BitPolicy(bits, {"rival": "diffq"})


def train(
    model: nn.Module,
    table: LayerTable,
    target_mib: float,
    loader: DataLoader,
    criterion: Any,
    *,
    seed: int,
    epochs: int,
    lr: float,
) -> DiffqModel:
    """
    Trains the model in DiffQ's own way, to a size.

    :param model: The float model; a copy is trained.
    :param table: The layers: their weights are quantized, at 2 to 8 bits, the fixed ones too.
    :param target_mib: Most for all of these weights at their bits, in units of 2**20 bytes.
    :param loader: Batches of (images, labels), of the training set.
    :param criterion: The loss, of (outputs, labels).
    :param seed: Of the noise.
    :param epochs: Length of the training; the learning rate falls to 0 by a cosine.
    :param lr: Learning rate of the weights at the start.
    :raises MissingDependencyError: If DiffQ is not installed.
    :raises InfeasibleBudgetError: If 2 bits for every weight are larger than the target.
    """
    total = sum(layer.weight_count for layer in table.layers)
    least = _MIN_BITS * total / MIB_BITS
    if target_mib < least:
        msg = f"target_mib={target_mib}: {total} weights at DiffQ's fewest {_MIN_BITS} bits take {least:.5f} MiB."
        raise InfeasibleBudgetError(msg)
    trained = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # DiffQ takes views of the weights
    steps = epochs * len(loader)
    with seeded(seed):
        optimizer = torch.optim.SGD(trained.parameters(), lr=lr, momentum=0.9, nesterov=True)
        quantizer, bits = _quantizer(trained, table, min(target_mib * MIB_BITS / total + 1, _MAX_BITS - 0.5))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        size = _SizeControl(bits, target_mib, steps)
        trained.train()
        for step, (images, labels) in enumerate(itertools.islice(_forever(loader), steps)):
            loss = criterion(trained(images), labels) + size.penalty(step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            size.step(step)
    trained.eval()
    return DiffqModel(trained, bits.means(), bits.mib(), quantizer.true_model_size(), steps)


def _forever(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


class GroupBits:
    """
    The logits that DiffQ learns, read as bits.

    :param logits: Layer name to the logits of its groups.
    :param group_size: Weights in a group.
    """

    def __init__(self, logits: dict[str, nn.Parameter], group_size: int):
        self.logits = logits
        self._group_size = group_size

    def smooth_mib(self) -> Tensor:
        """The size before rounding, with gradients."""
        total = torch.stack([_bits(logit).sum() for logit in self.logits.values()]).sum()
        return self._group_size * total / MIB_BITS

    @torch.no_grad()
    def mib(self) -> float:
        """The size, as DiffQ rounds."""
        total = sum(float(_bits(logit).round().sum()) for logit in self.logits.values())
        return self._group_size * total / MIB_BITS

    @torch.no_grad()
    def means(self) -> dict[str, float]:
        """Layer name to its mean bits, as DiffQ rounds."""
        return {name: float(_bits(logit).round().mean()) for name, logit in self.logits.items()}

    @torch.no_grad()
    def shift_to(self, target_mib: float) -> None:
        """Adds the largest constant to all logits with which the size is met, found by bisection."""
        start = {name: logit.clone() for name, logit in self.logits.items()}

        def shift(by: float) -> None:
            for name, logit in self.logits.items():
                logit.copy_(start[name] + by)

        low, high = -30.0, 30.0
        for _ in range(60):
            middle = (low + high) / 2
            shift(middle)
            low, high = (middle, high) if self.mib() <= target_mib else (low, middle)
        shift(low)


class _SizeControl:
    """
    Brings the size down while the bits are learned, then holds it.

    :param bits: The bits.
    :param target_mib: The size at the end.
    :param steps: Length of the training.
    """

    def __init__(self, bits: GroupBits, target_mib: float, steps: int):
        self._bits = bits
        self._target_mib = target_mib
        self._start_mib = float(bits.smooth_mib().detach())
        self._falling = max(1, int(_FALLING * steps))
        self._last = int(_LEARNING * steps)
        self._log_weight = math.log(1 / self._start_mib)
        # A logit moves by about the learning rate per step: over the training far enough for any number of bits.
        self._optimizer = torch.optim.Adam(bits.logits.values(), lr=min(0.1, 20 / steps))

    def penalty(self, step: int) -> Tensor | float:
        """What is added to the loss."""
        if step >= self._last:
            return 0.0
        size = self._bits.smooth_mib()
        part = min(1.0, step / self._falling)
        wanted = self._start_mib + part * (self._target_mib - self._start_mib)
        error = float(size.detach()) / wanted - 1
        self._log_weight += _KEPT * error
        return math.exp(self._log_weight + _OF_THE_MOMENT * error) * size

    def step(self, step: int) -> None:
        """Updates the bits; to be called after every step of the weights."""
        if step < self._last:
            self._optimizer.step()
        if step == self._last:
            self._bits.shift_to(self._target_mib)
        self._optimizer.zero_grad()


def _bits(logit: Tensor) -> Tensor:
    """DiffQ's bits of a logit."""
    return _MIN_BITS + (_MAX_BITS - _MIN_BITS) * torch.sigmoid(logit)


def _quantizer(model: nn.Module, table: LayerTable, init_bits: float) -> tuple[Any, GroupBits]:
    """DiffQ on the weights of the table's layers, and nothing else; its bits."""
    diffq = required("diffq", "diffq-fixed")
    weights = {f"{layer.name}.weight" for layer in table.layers}
    others = [name if "." in name else f".{name}" for name, _ in model.named_parameters() if name not in weights]
    group_size = math.gcd(_GROUP_SIZE, *(layer.weight_count for layer in table.layers))
    quantizer = diffq.DiffQuantizer(
        model,
        min_size=0,
        group_size=group_size,
        min_bits=_MIN_BITS,
        max_bits=_MAX_BITS,
        init_bits=init_bits,
        suffix=_SUFFIX,
        exclude=others,
    )
    quantizer.no_optimizer()
    logits = {layer.name: model.get_parameter(f"{layer.name}.weight{_SUFFIX}") for layer in table.layers}
    return quantizer, GroupBits(logits, group_size)
