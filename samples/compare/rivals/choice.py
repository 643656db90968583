"""What every rival returns, and what they share in reading a budget."""

import importlib
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import layer_bitops
from llt_nncf.cost import layer_weight_bits
from llt_nncf.cost import limit_shares
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import MissingDependencyError

_BITOPS = ("gbitops", "bitops_as")
_SIZES = ("compression_ratio", "weight_mib", "average_weight_bits")


@dataclass(frozen=True)
class RivalChoice:
    """
    What a rival chose.

    :param policy: Within the budget by our own count; fixed layers at the table's bits.
    :param passes: Forward and backward passes of one batch each that the choice took; a forward pass alone is 1/3, a
        Hessian-vector product 1.
    :param notes: What its rules do not allow, and how near it came, in sentences.
    """

    policy: BitPolicy
    passes: float
    notes: tuple[str, ...]


def required(module: str, package: str) -> Any:
    """
    Imports a rival's module.

    :param module: Name to import.
    :param package: Name to install.
    :raises MissingDependencyError: If it is not there, or cannot be imported beside what is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        msg = f"{package} cannot be imported ({error}); it comes with: pip install llt_nncf[compare]"
        raise MissingDependencyError(msg) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from a generator of its own inside, and leaves PyTorch's as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def largest_share(policy: BitPolicy, table: LayerTable, budget: Budget) -> float:
    """The part of its tightest limit that the policy uses; above 1 it is over the budget."""
    return max(row.share for row in limit_shares(budget, policy, table))


def is_within(policy: BitPolicy, table: LayerTable, budget: Budget) -> bool:
    """Whether the policy meets every limit."""
    return largest_share(policy, table, budget) <= 1


def share_note(policy: BitPolicy, table: LayerTable, budget: Budget) -> str:
    """Says what of each limit the policy uses."""
    rows = limit_shares(budget, policy, table)
    parts = [f"{row.name} {row.given}: {100 * row.share:.2f} % of the limit" for row in rows]
    return f"Uses {', '.join(parts)}."


def limits_by_kind(rival: str, table: LayerTable, budget: Budget) -> dict[str, int]:
    """
    The budget for a rival that knows BitOPs and weight sizes: the tightest limit of each kind that was given.

    :param rival: Its name, for errors.
    :param table: The layers.
    :param budget: The budget.
    :return: ``bitops`` and ``weight_bits`` to the most over all layers, the fixed ones included.
    :raises InfeasibleBudgetError: If the budget has a limit of another kind.
    """
    result: dict[str, int] = {}
    for limit in budget.limits(table):
        kind = {**dict.fromkeys(_BITOPS, "bitops"), **dict.fromkeys(_SIZES, "weight_bits")}.get(limit.name)
        if kind is None:
            allowed = ", ".join((*_BITOPS, *_SIZES))
            msg = f"{rival} has no rule for a limit on {limit.name}; it can be asked for {allowed}."
            raise InfeasibleBudgetError(msg)
        most = limit.limit + (_of_fixed_layers(table, kind) if limit.name in budget.without_fixed else 0)
        result[kind] = min(result.get(kind, most), most)
    return result


def _of_fixed_layers(table: LayerTable, kind: str) -> int:
    cost = {"bitops": layer_bitops, "weight_bits": layer_weight_bits}[kind]
    return sum(cost(row, row.weight_bits[0], row.activation_bits[0]) for row in table.layers if row.is_fixed)


def policy_in_table(bits: Mapping[str, tuple[int, int]], table: LayerTable, provenance: Mapping[str, Any]) -> BitPolicy:
    """
    A rival's bits in our table: what is fixed keeps its own, and layers that share an activation quantizer get the most
    bits that the rival gave to one of them.

    :param bits: Layer name to (weight bits, activation bits); fixed layers may be left out.
    :param table: The layers.
    :param provenance: Of the policy.
    :raises ArtifactError: If the table does not have such a candidate.
    """
    shared = {
        group: max((bits[layer.name][1] for layer in layers if layer.name in bits), default=0)
        for group, layers in table.groups.items()
    }
    own = {}
    for layer in table.layers:
        weight_bits, _ = bits.get(layer.name, (layer.weight_bits[0], 0))
        own[layer.name] = layer.uniform_bits(weight_bits, shared[layer.activation_group])
    policy = BitPolicy(own, provenance)
    policy.check(table)
    return policy
