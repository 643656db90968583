"""One step of Algorithm 1: the passes of all policies, one exchange of gradients, one update."""

import itertools
import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch import nn

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.indicators.distillation import DistilledLoss
from llt_nncf.indicators.indicator_average import IndicatorAverage
from llt_nncf.indicators.model_buffers import ModelBuffers
from llt_nncf.indicators.policy_rounds import policy_rounds
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.indicators.rank_exchange import any_over_ranks
from llt_nncf.indicators.rank_exchange import average_over_ranks
from llt_nncf.indicators.rank_exchange import take_from_first_rank
from llt_nncf.indicators.scalar_loss import scalar_loss
from llt_nncf.indicators.step_size_rates import BitRates
from llt_nncf.indicators.step_size_rates import parameter_groups
from llt_nncf.quantizers import PerBitBatchNorm


class JointStep:
    """
    Does optimizer steps on a model; calling it does one.

    :param model: The model, trained in place; at several ranks it takes over rank 0's parameters and buffers.
    :param quantizers: Its switchable quantizers.
    :param loss_fn: ``loss_fn(model, batch)`` does the forward pass and returns a scalar loss.
    :param candidate_bits: Bit-widths of the uniform policies, descending.
    :param learning_rate: Of SGD.
    :param momentum: Of SGD.
    :param weight_decay: L2 regularisation, once per step (Eq. 2).
    :param step_size_learning_rate: Of the step sizes; ``None`` for that of the weights, as in the paper.
    :param step_size_weight_decay: Of the step sizes; ``None`` for that of the weights, as in the paper.
    :param learning_rate_per_bit: Bit-width to factor on the step sizes' learning rate.
    :param gradient_clip_value: Gradients are clipped to this magnitude; the authors' code takes 1.
    :param sampled_policies: K, the number of policies drawn per step.
    :param tie_weight_activation: Draws one bit-width for the weights and the input of a layer.
    :param aggregation: ``sum`` of the gradients as in the paper, or their ``mean`` over the passes.
    :param per_bit_batch_norm: Gives every batch norm a copy for each bit-width, for the time of the training.
    :param distillation: ``none``; ``in_place``: the passes after the first learn from its outputs; ``teacher``: all
        passes learn from the teacher's.
    :param teacher: The float model for ``teacher``.
    :param indicator_ema: Decay of the indicators' moving average, 0 to below 1; ``None`` for none.
    :param on_nonfinite: ``error``, or ``skip`` to leave out updates with a loss or gradient that is NaN or infinite.
    :param seed: Of the sampled policies.
    """

    def __init__(
        self,
        model: nn.Module,
        quantizers: QuantizerSet,
        loss_fn: Callable[[nn.Module, Any], Tensor],
        *,
        candidate_bits: tuple[int, ...],
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 2.5e-5,
        step_size_learning_rate: float | None = None,
        step_size_weight_decay: float | None = None,
        learning_rate_per_bit: Mapping[int, float] | None = None,
        gradient_clip_value: float | None = None,
        sampled_policies: int = 1,
        tie_weight_activation: bool = False,
        aggregation: str = "sum",
        per_bit_batch_norm: bool = False,
        distillation: str = "none",
        teacher: nn.Module | None = None,
        indicator_ema: float | None = None,
        on_nonfinite: str = "error",
        seed: int = 0,
    ):
        self.model = model
        self.quantizers = quantizers
        self.candidate_bits = tuple(sorted(candidate_bits, reverse=True))
        self.learning_rate = learning_rate
        self._loss_fn = loss_fn
        self._distilled = None if distillation == "none" else DistilledLoss(loss_fn, kind=distillation, teacher=teacher)
        self._sampled_policies = sampled_policies
        self._tie = tie_weight_activation
        self._factor = 1.0 / (len(candidate_bits) + sampled_policies) if aggregation == "mean" else 1.0
        self._clip_value = gradient_clip_value
        self._skips = on_nonfinite == "skip"
        self._seed = seed
        take_from_first_rank([*model.parameters(), *model.buffers()])
        for quantizer in quantizers.all():
            quantizer.refresh_mirrors()
        self._bank = PerBitBatchNorm(model, quantizers.weights.values()) if per_bit_batch_norm else None
        copies = [] if self._bank is None else list(self._bank.parameters())
        self._parameters = [p for p in (*model.parameters(), *copies) if p.requires_grad]
        groups = parameter_groups(
            self._parameters,
            quantizers,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            step_size_learning_rate=step_size_learning_rate,
            step_size_weight_decay=step_size_weight_decay,
        )
        self._optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)
        self._rates = BitRates(quantizers, learning_rate_per_bit or {})
        self._average = None if indicator_ema is None else IndicatorAverage(quantizers, indicator_ema)
        owners = [model] if self._bank is None else [model, self._bank]
        self._buffers = ModelBuffers(owners, quantizers)
        self._open = ExitStack()
        if self._bank is not None:  # last: what fails above must leave no hooks in the model
            self._open.enter_context(self._bank)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._parameters[0].device

    def __call__(self, batches: list[Any], step: int, rate_factor: float) -> tuple[dict[str, float], str | None]:
        """
        Does one optimizer step.

        :param batches: Their gradients are averaged: gradient accumulation.
        :param step: Number of the step, from 0.
        :param rate_factor: On the learning rates.
        :return: Loss of every pass, and why the update was left out, if it was.
        :raises TrainingDivergedError: If a loss or a gradient is NaN or infinite; names step, policy and layer. Nothing
            has changed then, nor after any other error in a pass.
        :raises InvalidTensorError: If a loss is no tensor of one element.
        """
        before = self._buffers.copies()
        found: str | None = None
        try:
            self._optimizer.zero_grad()
            names, losses = self._passes(batches, step)
            gradients = self._gradients()
            average_over_ranks([losses, *gradients, *(b for b in self._buffers.tensors() if b.is_floating_point())])
            if not bool(torch.isfinite(losses.sum() + nn.utils.get_total_norm(gradients))):
                found = f"at step {step}: {self._find_fault(names, losses.tolist(), batches, step)}"
        except BaseException:
            self._buffers.put_back(before)
            raise
        if found is not None:
            self._buffers.put_back(before)
            self._optimizer.zero_grad()
            if not self._skips:
                raise self._diverged(found)
            return dict(zip(names, losses.tolist(), strict=True)), found
        if self._clip_value is not None:
            nn.utils.clip_grad_value_(self._parameters, self._clip_value)
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor
        self._rates.step(self._optimizer)
        if self._average is not None:
            self._average.update()
        return dict(zip(names, losses.tolist(), strict=True)), None

    def _passes(self, batches: list[Any], step: int) -> tuple[list[str], Tensor]:
        """Adds up the gradients; returns the passes' names and losses, which stay on the device until all are done."""
        totals: dict[str, Tensor] = {}
        for batch in batches:
            if self._distilled is not None:
                self._distilled.new_batch()
            for name in self._rounds(step):
                loss = scalar_loss((self._distilled or self._loss_fn)(self.model, batch))
                (loss * (self._factor / len(batches))).backward()
                totals[name] = totals.get(name, 0.0) + loss.detach() / len(batches)
        return list(totals), torch.stack(list(totals.values()))

    def _gradients(self) -> list[Tensor]:
        """Of all parameters that a pass has used on any rank; zeros where it was on others only (dropped layers)."""
        used = any_over_ranks([p.grad is not None for p in self._parameters], self.device)
        for parameter in itertools.compress(self._parameters, used):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [p.grad for p in self._parameters if p.grad is not None]

    def _rounds(self, step: int) -> Iterator[str]:
        return policy_rounds(
            self.quantizers,
            self.candidate_bits,
            sampled_policies=self._sampled_policies,
            seed=self._seed,
            step=step,
            tie_weight_activation=self._tie,
        )

    def indicators(self, source: str) -> IndicatorTable:
        """Returns the indicators as they are now, or their averages."""
        return self.quantizers.read_indicators(source, None if self._average is None else self._average.step_sizes)

    def finish(self) -> None:
        """Takes out what was put into the model for the training."""
        self._optimizer.zero_grad()
        self._open.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that a step changes."""
        return {
            "model": self.model.state_dict(),
            "buffers": self._buffers.copies(),  # with those that are in no state dict
            "optimizer": self._optimizer.state_dict(),
            "batch_norms": None if self._bank is None else self._bank.state_dict(),
            "average": None if self._average is None else self._average.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self.model.load_state_dict(state["model"])
        self._buffers.put_back(state["buffers"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._bank is not None:
            self._bank.load_state_dict(state["batch_norms"])
        if self._average is not None:
            self._average.load_state(state["average"])

    def _find_fault(self, names: list[str], losses: list[float], batches: list[Any], step: int) -> str:
        """Words what is not finite, and where it comes from."""
        bad = next((name for name, loss in zip(names, losses, strict=True) if not math.isfinite(loss)), None)
        if bad is None:
            grads = [(n, p.grad) for n, p in self.model.named_parameters() if p.grad is not None]
            layer = next((n for n, grad in grads if not bool(torch.isfinite(grad).all())), "their sum")
            return f"all losses are finite, but a gradient is not: {layer}"
        seen: list[str] = []
        named = {**self.quantizers.weights, **self.quantizers.activations}
        with ExitStack() as hooks, torch.no_grad():
            for name, quantizer in named.items():

                def look(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                    if not bool(torch.isfinite(inputs[0]).all()):
                        seen.append(name)

                hooks.callback(quantizer.register_forward_pre_hook(look).remove)
            for batch in batches:
                for name in self._rounds(step):
                    if name == bad:
                        self._loss_fn(self.model, batch)
        where = f"first seen by the quantizer of {seen[0]!r}" if seen else "every quantizer still sees finite values"
        return f"the loss of policy {bad} is {losses[names.index(bad)]}; {where}"

    def _diverged(self, found: str) -> TrainingDivergedError:
        return TrainingDivergedError(
            f"Importance training diverged {found}. Lower importance.learning_rate (now {self.learning_rate}), set "
            "importance.gradient_clip_value (the authors take 1), or drop the lowest of candidate_bits "
            f'({list(self.candidate_bits)}); "on_nonfinite": "skip" leaves out single bad batches.'
        )
