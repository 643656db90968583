"""
NNCF's HAWQ precision initialisation (nncf 2.19, Apache-2.0): HAWQ-v2, Dong et al., NeurIPS 2020, arXiv:1911.03852.

HAWQ orders the layers by the average trace of their Hessian, considers bits that never fall along this order, and takes
the least perturbation among those assignments that are at least ``compression_ratio`` times cheaper than 8 bits. It
counts the cost of a layer as FLOPs times the larger of weight and activation bits, so that its ratio says little of
BitOPs or sizes. Here every ratio is asked, over one set of traces: of the assignments that it answers with, the one
that uses most of our budget without exceeding it is its choice.

The first use compiles NNCF's C++ extension, which takes minutes.
"""

import copy
import math
import os
import re
import warnings
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "0")

import llt_nncf.register  # noqa: F401  selects the tracing that create_compressed_model needs

# isort: split

import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from nncf.torch.quantization.init_precision import PrecisionInitializerFactory
from nncf.torch.quantization.precision_init.hawq_init import HAWQPrecisionInitializer
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.errors import InfeasibleBudgetError

from .choice import is_within
from .choice import largest_share
from .choice import policy_in_table
from .choice import seeded
from .choice import share_note

_RANGE_SAMPLES = 256
# NNCF's default: estimates of the traces, each of one more random vector, unless they settle before.
_ITERATIONS = 200

# HAWQ's gradients are taken with a graph of their own on purpose; NNCF frees it.
_EXPECTED_WARNINGS = ("Using backward\\(\\) with create_graph=True", "The 'nncf.torch")


@dataclass(frozen=True)
class Answer:
    """
    What HAWQ answers with over a range of ratios.

    :param ratio: The largest ``compression_ratio`` that it is the answer to.
    :param bits: Layer name to (weight bits, activation bits), of the layers that are not fixed.
    """

    ratio: float
    bits: dict[str, tuple[int, int]]


def best_answer(found: Sequence[Answer], table: LayerTable, budget: Budget) -> tuple[BitPolicy, tuple[str, ...]]:
    """
    The answer that uses most of the budget, with the notes on it.

    :param found: HAWQ's answers, in any order.
    :param table: The layers.
    :param budget: The budget.
    :raises InfeasibleBudgetError: If none is within the budget.
    """
    policies = {answer.ratio: policy_of(answer, table) for answer in found}
    within = {ratio: policy for ratio, policy in policies.items() if is_within(policy, table, budget)}
    if not within:
        nearest = min(policies.values(), key=lambda policy: largest_share(policy, table, budget))
        msg = (
            f"HAWQ has {len(policies)} answers over all ratios, and none is within the budget "
            f"({', '.join(budget.names)}); the nearest one: {share_note(nearest, table, budget)} Raise the budget."
        )
        raise InfeasibleBudgetError(msg)
    ratio, policy = max(within.items(), key=lambda item: largest_share(item[1], table, budget))
    searched = [layer for layer in table.layers if len(layer.weight_bits) > 1]
    notes = [
        f"Candidates {list(_candidates(table))}; a layer of larger Hessian trace never has fewer bits; the input of a "
        "layer has the bits of its weights.",
        f"{len(policies)} answers over all compression_ratio; of ratio {ratio:.4f} is the one nearest to the budget.",
        share_note(policy, table, budget),
    ]
    if any(len(layer.activation_bits) == 1 for layer in searched):
        notes.append("HAWQ counts activations at the bits of the weights; the table fixes some at others.")
    return policy, tuple(notes)


def policy_of(answer: Answer, table: LayerTable) -> BitPolicy:
    """The answer in our table."""
    return policy_in_table(answer.bits, table, {"rival": "hawq", "compression_ratio": answer.ratio})


def answers(
    model: nn.Module, table: LayerTable, loader: DataLoader, criterion: Any, *, seed: int
) -> tuple[list[Answer], float]:
    """
    All that HAWQ answers with, whatever the ratio; they serve every budget.

    :param model: The float model; a copy is worked on.
    :param table: The layers. Those whose weights are fixed are hidden from HAWQ.
    :param loader: Batches of (images, labels).
    :param criterion: The loss, of (outputs, labels).
    :param seed: Of the random vectors of the trace estimate.
    :return: The answers by rising ratio, and the passes that they took.
    """
    calls = 0

    def counted(outputs: Any, labels: Any, loss: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return loss(outputs, labels)

    with TemporaryDirectory() as folder, seeded(seed), _answering() as found, warnings.catch_warnings():
        for text in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", text)
        images, _ = next(iter(loader))
        config = register_default_init_args(
            NNCFConfig.from_dict(_config(table, images.shape, folder)),
            loader,
            criterion=criterion,
            criterion_fn=counted,
        )
        create_compressed_model(copy.deepcopy(model).eval(), config, dump_graphs=False)
    # Ranges are initialized before the search and after it.
    range_passes = 2 * min(len(loader), math.ceil(_RANGE_SAMPLES / len(images))) / 3
    return found, 2 * calls + range_passes


def _config(table: LayerTable, shape: Sequence[int], folder: str) -> dict[str, Any]:
    """HAWQ with its default effort on a device without rules of its own; layers of fixed weights are hidden."""
    hidden = [_scope(layer.name) for layer in table.layers if len(layer.weight_bits) == 1]
    return {
        "input_info": {"sample_size": [1, *shape[1:]]},
        "target_device": "TRIAL",
        "log_dir": folder,
        "compression": {
            "algorithm": "quantization",
            "ignored_scopes": hidden,
            "weights": {"mode": "symmetric", "per_channel": True},
            "activations": {"mode": "symmetric"},
            "initializer": {
                "range": {"num_init_samples": _RANGE_SAMPLES},
                "batchnorm_adaptation": {"num_bn_adaptation_samples": 0},
                "precision": {"type": "hawq", "bits": list(_candidates(table)), "iter_number": _ITERATIONS},
            },
        },
    }


def _candidates(table: LayerTable) -> tuple[int, ...]:
    """Bits that the weights of all searched layers, and the inputs of those whose inputs are searched, may have."""
    choices = [set(layer.weight_bits) for layer in table.layers if len(layer.weight_bits) > 1]
    choices += [set(layer.activation_bits) for layer in table.layers if len(layer.activation_bits) > 1]
    return tuple(sorted(set.intersection(*choices))) if choices else ()


def _scope(name: str) -> str:
    """NNCF's pattern for the operations of one module."""
    parts = "".join(rf"/[^/]*\[{re.escape(part)}\]" for part in name.split("."))
    return f"{{re}}^[^/]+{parts}/[^/]+$"


@contextmanager
def _answering() -> Iterator[list[Answer]]:
    """Has NNCF's HAWQ leave all its answers in the list while it is inside."""
    found: list[Answer] = []

    class Sweep(HAWQPrecisionInitializer):
        """HAWQ that is asked for every ratio before it goes on with the smallest."""

        def get_compression_ratio_per_qconfig_sequence(self, sequences: Any, order: Any) -> list[float]:
            self._sequences, self._order = sequences, order
            ratios = super().get_compression_ratio_per_qconfig_sequence(sequences, order)
            self._compression_ratio = min(ratios)
            return ratios

        def choose_qconfig_sequence(self, metrics: Any, ratios: Any, smallest: float) -> int:
            choose_for = super().choose_qconfig_sequence
            for ratio in answered_ratios(ratios, [float(metric) for metric in metrics]):
                sequence = self._sequences[choose_for(metrics, ratios, ratio)]
                setup = self.get_quantizer_setup_for_qconfig_sequence(sequence, self._order)
                found.append(Answer(ratio, _layer_bits(setup, self._model)))
            return choose_for(metrics, ratios, smallest)

    original = PrecisionInitializerFactory.create
    PrecisionInitializerFactory.create = staticmethod(lambda kind: Sweep)
    try:
        yield found
    finally:
        PrecisionInitializerFactory.create = staticmethod(original)


def answered_ratios(ratios: Sequence[float], metrics: Sequence[float]) -> list[float]:
    """
    The ratios that have answers of their own: HAWQ takes the smallest metric among those of at least the ratio.

    >>> answered_ratios([1.0, 2.0, 3.0, 4.0], [0.1, 0.5, 0.3, 0.9])
    [1.0, 3.0, 4.0]
    """
    result: list[float] = []
    least = math.inf
    for ratio, metric in sorted(zip(ratios, metrics, strict=True), key=lambda pair: (-pair[0], pair[1])):
        if metric < least:
            least = metric
            result.append(ratio)
    return result[::-1]


def _layer_bits(setup: Any, model: Any) -> dict[str, tuple[int, int]]:
    """Layer name to the bits of its weights and of the quantizer that feeds it."""
    names = {id(module): name for name, module in model.named_modules()}
    points = setup.quantization_points.values()
    inputs = {
        node: point.qconfig.num_bits
        for point in points
        if point.is_activation_quantization_point()
        for node in point.directly_quantized_operator_node_names
    }
    weights = {
        point.insertion_point.target_node_name: point.qconfig.num_bits
        for point in points
        if point.is_weight_quantization_point()
    }
    return {
        names[id(model.nncf.get_containing_module(node))]: (num_bits, inputs[node])
        for node, num_bits in weights.items()
    }
