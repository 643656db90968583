"""
Joint training of the weights and all step sizes, which turns the step sizes into importance indicators.

Algorithm 1 of LIMPQ's supplement (Tang et al., ECCV 2022, arXiv:2203.08368).
"""

import hashlib
import itertools
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import nn

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import StepRecord
from llt_nncf.artifacts import reading
from llt_nncf.artifacts.json_file import typed
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import MissingInitArgsError
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.errors import located
from llt_nncf.indicators.joint_step import JointStep
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.indicators.random_state import random_state
from llt_nncf.indicators.random_state import samplers
from llt_nncf.indicators.random_state import set_random_state
from llt_nncf.indicators.rank_exchange import gathered
from llt_nncf.indicators.rank_exchange import is_first_rank
from llt_nncf.indicators.rank_exchange import made_by_first_rank
from llt_nncf.indicators.rank_exchange import rank
from llt_nncf.indicators.rank_exchange import rank_count
from llt_nncf.indicators.rank_exchange import smallest_over_ranks
from llt_nncf.indicators.ranking import RankingWindow
from llt_nncf.indicators.ranking import ranking_tau
from llt_nncf.indicators.training_checkpoint import load_checkpoint
from llt_nncf.indicators.training_checkpoint import plain_numbers
from llt_nncf.indicators.training_checkpoint import save_checkpoint


@dataclass(frozen=True)
class JointTrainingResult:
    """
    What the training did.

    :param steps: Number of optimizer steps, those that were skipped included.
    :param losses: Mean loss of each pass of the last epoch, by its name (``uniform-6``, ..., ``sampled-0``).
    :param indicators: The trained indicators; with ``indicator_ema`` the averages.
    :param skipped_steps: Updates that were left out, with ``on_nonfinite="skip"``.
    :param stopped_stable: Whether the ranking of the layers was stable before the epochs were over.
    """

    steps: int
    losses: dict[str, float]
    indicators: IndicatorTable
    skipped_steps: int = 0
    stopped_stable: bool = False


def train_indicators(
    model: nn.Module,
    quantizers: QuantizerSet,
    loader: Iterable[Any],
    loss_fn: Callable[[nn.Module, Any], Tensor],
    *,
    candidate_bits: tuple[int, ...],
    epochs: int = 1,
    max_steps: int | None = None,
    data_fraction: float = 1.0,
    accumulation_steps: int = 1,
    learning_rate: float = 0.01,
    seed: int = 0,
    stop_at_tau: float | None = None,
    tau_window: int = 100,
    log_every: int = 10,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 100,
    on_step: Sequence[Callable[[StepRecord], None]] = (),
    **step_options: Any,
) -> JointTrainingResult:
    """
    Trains weights and step sizes together, in place.

    One optimizer step adds up the gradients of a uniform policy for each candidate bit-width and of the sampled ones,
    all on the same batch, and updates everything at once with SGD and a cosine learning rate. In a process group every
    rank calls this with its share of the data; gradients and batch norm statistics are exchanged once a step.

    :param model: The model; it is in training mode during and after the call.
    :param quantizers: Its switchable quantizers.
    :param loader: Batches of one epoch; iterated ``epochs`` times.
    :param loss_fn: ``loss_fn(model, batch)`` does the forward pass and returns a scalar loss.
    :param candidate_bits: Bit-widths of the uniform policies.
    :param epochs: Passes over the loader.
    :param max_steps: Stops after this number of optimizer steps, if that comes first.
    :param data_fraction: Share of the loader's batches that each epoch takes, from its beginning.
    :param accumulation_steps: Batches of the loader that make up one optimizer step.
    :param learning_rate: Of SGD, at the start of the cosine.
    :param seed: Of the sampled policies.
    :param stop_at_tau: Stops once Kendall's tau between the layers' ranking and that of ``tau_window`` steps ago
        reaches this; ``None`` for never.
    :param tau_window: In optimizer steps.
    :param log_every: Steps between two looks at the indicators, for the log and for ``stop_at_tau``.
    :param checkpoint: File that the state is saved to, and resumed from if it is there; the caller deletes it when the
        indicators are saved. A resumed training gives bit-identical results on a CPU, given a loader that shuffles by
        PyTorch's generators.
    :param checkpoint_every: Steps between two checkpoints; there is one after every epoch too.
    :param on_step: Called after each step, one after the other: ``TrainingProgress``, ``TrainingLog``,
        ``TensorBoardLog``, or whatever takes a ``StepRecord``.
    :param step_options: Options of ``JointStep``: ``momentum``, ``weight_decay``, ``sampled_policies`` and more.
    :return: The indicators and what was done.
    :raises TrainingDivergedError: If a loss or a gradient is NaN or infinite, after saving the state before that step;
        or if that was so in every step, with ``on_nonfinite="skip"``.
    :raises MissingInitArgsError: If the loader gives no batch in an epoch, or has no length, which ``data_fraction``
        needs.
    :raises ArtifactError: If the checkpoint is of a training with other settings, or on more data.
    """
    step_options = plain_numbers(
        {"candidate_bits": candidate_bits, "learning_rate": learning_rate, "seed": seed, **step_options}
    )
    step = JointStep(model, quantizers, loss_fn, **step_options)
    try:
        per_epoch = _batches_per_epoch(loader, data_fraction, step.device)
        settings = plain_numbers(
            {
                "batches per epoch": per_epoch,
                "epochs": epochs,
                "max_steps": max_steps,
                "data_fraction": data_fraction,
                "accumulation_steps": accumulation_steps,
                "ranks": rank_count(),
                # What to do about the next bad batch may be another after a resume.
                **{key: value for key, value in step_options.items() if key not in ("teacher", "on_nonfinite")},
                **_marks_of(model, quantizers),
            }
        )
        start = quantizers.read_indicators("start values")
        run = _Run(step, loader, settings, checkpoint, RankingWindow(tau_window, stop_at_tau), start)
        run.resume()
        model.train()
        total = None if per_epoch is None else math.ceil(per_epoch / accumulation_steps) * epochs
        if max_steps is not None:
            total = max_steps if total is None else min(total, max_steps)
        while run.epoch < epochs and not run.is_over(total):
            for batches in run.groups_of_batches(per_epoch, accumulation_steps):
                rate_factor = 1.0 if total is None else 0.5 * (1 + math.cos(math.pi * run.steps / total))
                run.do(batches, rate_factor, total, log_every=log_every, on_step=on_step)
                if run.steps % checkpoint_every == 0:
                    run.save()
                if run.is_over(total):
                    break
            else:
                run.end_epoch()
        run.check_trained()
        run.restore_random()  # of a training that was over when it was killed
        run.save()
    finally:
        step.finish()
    losses = {name: value / max(run.counted, 1) for name, value in run.sums.items()}
    text = f"step sizes after {run.steps} steps of importance training, seed {seed}"
    return JointTrainingResult(run.steps, losses, step.indicators(text), run.skipped, run.ranking.is_stable)


def _marks_of(model: nn.Module, quantizers: QuantizerSet) -> dict[str, Any]:
    """By what a model is known that training has not begun to change."""
    return {
        "digest of the weights before it": _digest_of_weights(model, quantizers),
        # Masks of sparsity and the teacher of another distillation are in a model's state, too.
        "tensors in the model's state": len(model.state_dict()),
        **{f"layer {layer.name}": layer.to_dict() for layer in quantizers.table.layers},
        "quantizers that feed no layer": dict(quantizers.table.unsearched),
    }


def _digest_of_weights(model: nn.Module, quantizers: QuantizerSet) -> str:
    """Tells another float model: its step sizes would be those of the checkpoint, and so would all that follows."""
    step_sizes = {id(quantizer.raw_step_sizes) for quantizer in quantizers.all()}
    digest = hashlib.sha256()
    for parameter in model.parameters():
        if id(parameter) not in step_sizes:
            digest.update(parameter.detach().reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Run:
    """Where the training stands, and how it is saved."""

    def __init__(
        self,
        step: JointStep,
        loader: Iterable[Any],
        settings: dict[str, Any],
        checkpoint: Path | str | None,
        ranking: RankingWindow,
        start: IndicatorTable,
    ):
        self.joint_step = step
        self.loader = loader
        self.settings = settings
        self.checkpoint = checkpoint
        self.ranking = ranking
        self.start = start
        self.steps = self.epoch = self.batches_done = self.counted = self.skipped = 0
        self.sums: dict[str, float] = {}
        self._epoch_random: dict[str, Any] | None = None
        self._resumed_random: dict[str, Any] | None = None

    def is_over(self, total: int | None) -> bool:
        return self.ranking.is_stable or (total is not None and self.steps >= total)

    def groups_of_batches(self, per_epoch: int | None, size: int) -> Iterable[list[Any]]:
        """The rest of this epoch, ``size`` batches at a time; after a resume from where it had come to."""
        for sampler in samplers(self.loader):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.epoch)
        if self.batches_done == 0:
            self.sums, self.counted = {}, 0
            self._epoch_random = random_state(self.loader, self.joint_step.device)
        elif self._epoch_random is not None:
            # The same shuffling again; then on with the generators as they were amid the epoch.
            set_random_state(self._epoch_random, self.loader, self.joint_step.device)
        iterator = iter(self.loader)
        if (given := sum(1 for _ in itertools.islice(iterator, self.batches_done))) < self.batches_done:
            msg = (
                f"The training of {self.checkpoint} had come to batch {self.batches_done} of an epoch, and the data "
                f"loader now ends after {given}: register the same data again, or delete the file to train from the "
                "start."
            )
            raise ArtifactError(msg)
        self.restore_random()
        if per_epoch is None:
            iterator = _while_all_ranks_have_one(iterator, self.joint_step.device)
        indices = itertools.count(self.batches_done) if per_epoch is None else range(self.batches_done, per_epoch)
        group: list[Any] = []
        for index, batch in zip(indices, iterator, strict=False):
            group.append(batch)
            if len(group) == size or index + 1 == per_epoch:
                self.batches_done = index + 1
                yield group
                group = []
        if group:
            self.batches_done += len(group)
            yield group

    def do(
        self,
        batches: list[Any],
        rate_factor: float,
        total: int | None,
        *,
        log_every: int,
        on_step: Sequence[Callable[[StepRecord], None]],
    ) -> None:
        """One optimizer step with all that is noted about it."""
        before = random_state(self.loader, self.joint_step.device)
        try:
            losses, skipped = self.joint_step(batches, self.steps, rate_factor)
        except Exception as error:
            # The step has changed nothing yet: what was good before it is kept. Of several ranks all diverge at once,
            # and can exchange what a checkpoint holds; after any other error one may be alone.
            self.batches_done -= len(batches)
            if rank_count() == 1 or isinstance(error, TrainingDivergedError):
                self._save(before)
            if self.checkpoint is None or not isinstance(error, TrainingDivergedError):
                raise
            msg = f"{error} From {self.checkpoint} it goes on with that; to change anything else, delete the file, too."
            raise TrainingDivergedError(msg) from error
        self.steps += 1
        self.skipped += skipped is not None
        if skipped is None:
            self.counted += 1
            for name, value in losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        indicators = tau = from_start = None
        if self.steps % log_every == 0 or self.steps == total:
            indicators = self.joint_step.indicators(f"step sizes after {self.steps} steps")
            from_start = ranking_tau(indicators, self.start)
            if skipped is None:  # where nothing is trained, the ranking is no more stable than it was
                tau = self.ranking.update(self.steps, indicators)
        rate = self.joint_step.learning_rate * rate_factor
        record = StepRecord(self.steps, total, self.epoch, rate, losses, indicators, tau, from_start, skipped)
        for observe in on_step:
            observe(record)

    def end_epoch(self) -> None:
        """
        Counts the epoch, and saves.

        :raises MissingInitArgsError: If it had no batch.
        """
        if self.batches_done == 0:
            msg = (
                f"The data loader gave no batch in epoch {self.epoch + 1} of importance training. Give it data, and if "
                "it is an iterator, which ends once and for all, a DataLoader or list in its place."
            )
            raise MissingInitArgsError(msg)
        self.epoch, self.batches_done = self.epoch + 1, 0
        self.save()

    def check_trained(self) -> None:
        """
        Checks that not all steps were left out.

        :raises TrainingDivergedError: If they were.
        """
        if 0 < self.steps == self.skipped:
            delete = "" if self.checkpoint is None else f", and delete {self.checkpoint} if it is there"
            msg = (
                f"All {self.steps} steps of importance training were left out, because a loss or a gradient was NaN or "
                f'infinite, so nothing was trained. Set "on_nonfinite" to "error" to see where that comes from{delete}.'
            )
            raise TrainingDivergedError(msg)

    def save(self) -> None:
        """Saves the state, if a file is named."""
        self._save(random_state(self.loader, self.joint_step.device))

    def _save(self, random: Mapping[str, Any]) -> None:
        if self.checkpoint is None:
            return
        of_ranks = gathered({"epoch_random": self._epoch_random, "random": random})
        if not is_first_rank():
            return
        state = {
            "joint_step": self.joint_step.state_dict(),
            "ranking": self.ranking.state_dict(),
            "start": {"weights": self.start.weights, "activations": self.start.activations},
            "counts": (self.steps, self.epoch, self.batches_done, self.counted, self.skipped, self.sums),
            "of_ranks": of_ranks,
        }
        save_checkpoint(self.checkpoint, self.settings, state)

    def resume(self) -> None:
        """Goes on from the checkpoint, if there is one."""
        if self.checkpoint is None:
            return
        path, settings = self.checkpoint, self.settings
        state = made_by_first_rank(lambda: load_checkpoint(path, settings))
        if state is None:
            return
        with reading(path, "a whole checkpoint of this training; delete it to train from the start"):
            self.joint_step.load_state_dict(state["joint_step"])
            self.ranking.load_state_dict(state["ranking"])
            with located(path):
                self.start = IndicatorTable(self.start.table, **state["start"], source=self.start.source)
            *counts, sums = state["counts"]
            self.steps, self.epoch, self.batches_done, self.counted, self.skipped = (typed(n, int) for n in counts)
            self.sums = {name: typed(value, float) for name, value in sums.items()}
            own = state["of_ranks"][rank()]
            self._epoch_random, self._resumed_random = own["epoch_random"], own["random"]
            # They are taken into use later, where nobody would say whose they are if they are damaged.
            before = random_state(self.loader, self.joint_step.device)
            for saved in filter(None, (self._epoch_random, self._resumed_random)):
                set_random_state(saved, self.loader, self.joint_step.device)
            set_random_state(before, self.loader, self.joint_step.device)
        if self.batches_done == 0:
            self.restore_random()

    def restore_random(self) -> None:
        """Puts the generators where they were at the checkpoint, once."""
        if self._resumed_random is not None:
            set_random_state(self._resumed_random, self.loader, self.joint_step.device)
            self._resumed_random = None


def _batches_per_epoch(loader: Iterable[Any], fraction: float, device: Any) -> int | None:
    """Batches that every rank takes in an epoch, or ``None`` if the loader does not know its length."""
    try:
        count = len(loader)  # type: ignore[arg-type]
    except TypeError:
        if fraction < 1.0:
            msg = (
                f"data_fraction={fraction} needs a data loader that has a length, and this {type(loader).__name__} has "
                "none: give max_steps in its place."
            )
            raise MissingInitArgsError(msg) from None
        return None
    # 7 % of 100 batches are 7, though 0.07 is no number of a computer, and 100 times the next one is above 7.
    return smallest_over_ranks(max(1, math.ceil(count * fraction - 1e-9)), device)


def _while_all_ranks_have_one(iterator: Iterator[Any], device: Any) -> Iterator[Any]:
    """Ends with the shortest of the ranks' loaders: a rank that went on would wait for the others for ever."""
    for found in itertools.chain(([batch] for batch in iterator), [[]]):
        if not smallest_over_ranks(len(found), device):
            return
        yield found[0]
