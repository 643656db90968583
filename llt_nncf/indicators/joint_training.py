"""
Joint training of the weights and all step sizes, which turns the step sizes into importance indicators.

Algorithm 1 of LIMPQ's supplement (Tang et al., ECCV 2022, arXiv:2203.08368).
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import TrainingDivergedError
from llt_nncf.indicators.policy_rounds import policy_rounds
from llt_nncf.indicators.quantizer_set import QuantizerSet


@dataclass(frozen=True)
class JointTrainingResult:
    """
    What the training did.

    :param steps: Number of optimizer steps.
    :param losses: Mean loss of each round of the last epoch, by its name (``uniform-6``, ..., ``sampled-0``).
    """

    steps: int
    losses: dict[str, float]


def train_indicators(
    model: nn.Module,
    quantizers: QuantizerSet,
    loader: Iterable[Any],
    loss_fn: Callable[[nn.Module, Any], Tensor],
    *,
    candidate_bits: tuple[int, ...],
    epochs: int = 1,
    max_steps: int | None = None,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 2.5e-5,
    sampled_policies: int = 1,
    aggregation: str = "sum",
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> JointTrainingResult:
    """
    Trains weights and step sizes together, in place.

    One optimizer step adds up the gradients of a uniform policy for each candidate bit-width and of the sampled ones,
    all on the same batch, and updates everything at once with SGD and a cosine learning rate.

    :param model: The model; it is in training mode during and after the call.
    :param quantizers: Its switchable quantizers.
    :param loader: Batches of one epoch; iterated ``epochs`` times.
    :param loss_fn: ``loss_fn(model, batch)`` does the forward pass and returns a scalar loss.
    :param candidate_bits: Bit-widths of the uniform policies.
    :param epochs: Passes over the loader.
    :param max_steps: Stops after this number of optimizer steps, if that comes first.
    :param learning_rate: Of SGD, at the start of the cosine.
    :param momentum: Of SGD.
    :param weight_decay: L2 regularisation of weights and step sizes, once per step (Eq. 2).
    :param sampled_policies: K, the number of policies drawn per step.
    :param aggregation: ``sum`` of the gradients as in the paper, or their ``mean`` over the rounds.
    :param seed: Of the sampled policies.
    :param on_step: Called after each step with its number and the losses of its rounds.
    :return: Steps done and final losses.
    :raises TrainingDivergedError: If a loss is NaN or infinite (names the step and the policy), or a step size is.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    total_steps = _total_steps(loader, epochs, max_steps)
    factor = 1.0 / (len(candidate_bits) + sampled_policies) if aggregation == "mean" else 1.0
    sums: dict[str, float] = {}
    step = counted = 0
    model.train()
    for _ in range(epochs):
        sums, counted = {}, 0
        for batch in loader:
            if total_steps is not None:
                if step >= total_steps:
                    break
                optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / total_steps))
            optimizer.zero_grad()
            losses: dict[str, float] = {}
            for name in policy_rounds(
                quantizers, candidate_bits, sampled_policies=sampled_policies, seed=seed, step=step
            ):
                loss = loss_fn(model, batch)
                losses[name] = loss.item()
                if not math.isfinite(losses[name]):
                    found = f"at step {step}: the loss of policy {name} is {losses[name]}"
                    raise _diverged(found, learning_rate, candidate_bits)
                (loss * factor).backward()
            optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            step, counted = step + 1, counted + 1
            if on_step is not None:
                on_step(step, losses)
    optimizer.zero_grad()
    if not all(bool(torch.isfinite(quantizer.raw_step_sizes).all()) for quantizer in quantizers.all()):
        raise _diverged(f"after step {step}: a step size is NaN or infinite", learning_rate, candidate_bits)
    return JointTrainingResult(step, {name: total / max(counted, 1) for name, total in sums.items()})


def _diverged(found: str, learning_rate: float, candidate_bits: tuple[int, ...]) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"Importance training diverged {found}. Lower importance.learning_rate (now {learning_rate}) or drop the "
        f"lowest of candidate_bits ({list(candidate_bits)})."
    )


def _total_steps(loader: Iterable[Any], epochs: int, max_steps: int | None) -> int | None:
    """Number of steps that will be done, or ``None`` if the loader does not know its length."""
    try:
        steps = len(loader) * epochs  # type: ignore[arg-type]
    except TypeError:
        return max_steps
    return steps if max_steps is None else min(steps, max_steps)
