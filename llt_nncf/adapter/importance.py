"""Start values and importance training inside NNCF's model creation or the script's loop; adapting batch norms."""

import copy
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from nncf import NNCFConfig
from nncf.common.initialization.batchnorm_adaptation import BatchnormAdaptationAlgorithm
from nncf.common.logging import nncf_logger
from nncf.config.extractors import BNAdaptDataLoaderNotFoundError
from nncf.config.extractors import extract_bn_adaptation_init_params
from nncf.torch.nncf_network import NNCFNetwork
from rich.console import Console
from torch import Tensor
from torch import nn

from llt_nncf.adapter.init_batches import InitBatches
from llt_nncf.adapter.saved_artifacts import writable_folder
from llt_nncf.adapter.teacher import without_teacher
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import StepRecord
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.artifacts import TrainingLog
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import LltConfig
from llt_nncf.functional import training_mode
from llt_nncf.indicators import JointTrainingResult
from llt_nncf.indicators import ModelBuffers
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import TensorBoardLog
from llt_nncf.indicators import TrainingProgress
from llt_nncf.indicators import is_first_rank
from llt_nncf.indicators import made_by_first_rank
from llt_nncf.indicators import normalize_indicators
from llt_nncf.indicators import open_quantizers
from llt_nncf.indicators import policy_rounds
from llt_nncf.indicators import scalar_loss
from llt_nncf.indicators import score_pairs
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators import train_indicators
from llt_nncf.plots import plot_training

_START_SAMPLES = 256
_LOG_EVERY = 50
_CHECKPOINT = "importance.ckpt"
_TRAINING_LOG = "importance.jsonl"

# Keys of ``importance`` that say what to do with the training, not how to train.
_NOT_TRAINING = ("where", "indicator", "start_values", "restore_weights", "tensorboard")


def start_from_data(model: NNCFNetwork, quantizers: QuantizerSet, nncf_config: NNCFConfig, start_values: str) -> None:
    """Sets the step sizes to their start values from a few batches of the registered loader."""
    batches = InitBatches.for_statistics(nncf_config)
    start_step_sizes(model, quantizers, islice(batches, _count(batches)), batches.forward, start_values=start_values)


def normalize_by_data(
    indicators: IndicatorTable, model: NNCFNetwork, quantizers: QuantizerSet, nncf_config: NNCFConfig
) -> IndicatorTable:
    """
    Returns the indicators over the standard deviations that a few batches of the registered loader show.

    At several ranks those of the first: each has data and batch norm statistics of its own.
    """
    batches = InitBatches.for_statistics(nncf_config)
    few = islice(batches, _count(batches))
    return made_by_first_rank(lambda: normalize_indicators(indicators, model, quantizers, few, batches.forward))


def score_by_plugin(name: str, model: NNCFNetwork, quantizers: QuantizerSet, nncf_config: NNCFConfig) -> PairScoreTable:
    """Returns the scores of a registered function on the registered loader; at several ranks those of the first."""
    batches = InitBatches.for_training(nncf_config)
    return made_by_first_rank(lambda: score_pairs(name, model, batches, quantizers))


def train_at_initialization(
    model: NNCFNetwork,
    quantizers: QuantizerSet,
    nncf_config: NNCFConfig,
    config: LltConfig,
    *,
    read: Callable[[IndicatorTable], IndicatorTable],
    other_losses: Sequence[Callable[[], Any]] = (),
) -> tuple[JointTrainingResult, IndicatorTable]:
    """
    Trains the indicators on the registered loader and criterion.

    With ``restore_weights`` everything but the step sizes that are indicators is afterwards as it was before.

    :param config: How to train, and the folder of checkpoint and logs.
    :param read: Makes the final indicators of the trained ones, while the model is still the trained one.
    :param other_losses: Called after each forward pass; what they return is added to the criterion's loss.
    :return: What the training did, and the final indicators.
    :raises MissingInitArgsError: If no loader or criterion was registered.
    :raises TrainingDivergedError: If a loss or a gradient becomes NaN or infinite.
    :raises InvalidTensorError: If the criterion returns anything but a tensor of one element.
    """
    batches = InitBatches.for_training(nncf_config)
    importance, folder = config.importance, config.artifacts_dir

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return scalar_loss(batches.loss(model, batch)) + sum(other() for other in other_losses)

    put_back = _putting_back(model, quantizers) if importance.restore_weights else None
    options = {key: value for key, value in asdict(importance).items() if key not in _NOT_TRAINING}
    with ExitStack() as stack:
        stack.enter_context(training_mode(model, True))
        if importance.distillation == "teacher":
            # Copied together, so that the quantizers are those of the copy.
            options["teacher"], theirs = copy.deepcopy((model, quantizers))
            stack.enter_context(open_quantizers(theirs))
        result = train_indicators(
            model,
            quantizers,
            batches,
            loss,
            candidate_bits=quantizers.uniform_bits(config.candidate_bits),
            checkpoint=None if folder is None else Path(folder) / _CHECKPOINT,
            on_step=_observers(stack, folder, tensorboard=importance.tensorboard),
            **options,
        )
        indicators = read(result.indicators)
    if put_back is not None:
        put_back()
    return result, indicators


def _putting_back(model: NNCFNetwork, quantizers: QuantizerSet) -> Callable[[], None]:
    """A function that gives the model the state that it has now, but for the step sizes that are indicators."""
    # Step sizes that nothing chooses between are none: a few steps at importance.learning_rate can carry an 8-bit one
    # far from the range that it was given.
    trained = {id(q.raw_step_sizes) for q in quantizers.all() if len(q.candidate_bits) > 1}
    state = model.state_dict(keep_vars=True)
    kept = {key: value.detach().clone() for key, value in state.items() if id(value) not in trained}
    buffers = ModelBuffers([model], quantizers)
    before = buffers.copies()

    def put_back() -> None:
        model.load_state_dict(kept, strict=False)
        buffers.put_back(before)  # with those that are in no state dict

    return put_back


def importance_passes(
    quantizers: QuantizerSet, config: LltConfig, *, step: int, model: nn.Module | None
) -> Iterator[str]:
    """
    Switches the quantizers through the passes of one step of a script's own loop, and then to their highest bits.

    :param step: Number of the optimizer step, on which the sampled policies depend.
    :param model: If it has ``no_sync``, that is entered around all passes but the last.
    :return: Yields the name of each pass.
    """
    importance = config.importance
    candidates = quantizers.uniform_bits(config.candidate_bits)
    last = len(candidates) + importance.sampled_policies - 1
    rounds = policy_rounds(
        quantizers,
        candidates,
        sampled_policies=importance.sampled_policies,
        seed=importance.seed,
        step=step,
        tie_weight_activation=importance.tie_weight_activation,
    )
    no_sync = getattr(model, "no_sync", nullcontext)
    try:
        for index, name in enumerate(rounds):
            with no_sync() if index < last else nullcontext():
                yield name
    finally:
        # What is evaluated or saved between the steps shall not be the policy that came last.
        quantizers.to_highest_bits()


def adapt_batch_norms(model: NNCFNetwork, nncf_config: NNCFConfig) -> None:
    """Adapts the statistics of the batch norms to the bits in use, as the config says, on the registered loader."""
    try:
        params = extract_bn_adaptation_init_params(nncf_config, ALGORITHM_NAME)
    except BNAdaptDataLoaderNotFoundError:
        # A resumed run may have no loader registered; its training goes on with the statistics that it has.
        nncf_logger.warning("llt_quantization: no data loader was registered, so batch norms were not adapted.")
        return
    if params is not None:
        # Without dropout, whatever mode the script has left the model in: after a resume it is another.
        with without_teacher(model), training_mode(model, False):
            BatchnormAdaptationAlgorithm(**params).run(model)


def finish_training(config: LltConfig) -> None:
    """Once the indicators are saved: removes the checkpoint, and draws the course of the training."""
    folder = writable_folder(config)
    if folder is None:
        return
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    plot_training(TrainingCurves.load(folder / _TRAINING_LOG), folder / "training.png")


def _count(batches: InitBatches) -> int:
    return max(1, _START_SAMPLES // batches.batch_size)


def _observers(stack: ExitStack, folder: str | None, *, tensorboard: bool) -> list[Callable[[StepRecord], Any]]:
    """What shows the training to a person: a bar in a terminal or lines in a log, and files."""
    if not is_first_rank():
        return []
    found: list[Callable[[StepRecord], Any]] = [
        stack.enter_context(TrainingProgress()) if Console().is_terminal else _log_progress
    ]
    if folder is not None:
        found.append(TrainingLog(Path(folder) / _TRAINING_LOG))
        if tensorboard:
            found.append(board := TensorBoardLog(Path(folder) / "tensorboard"))
            stack.callback(board.close)
    return found


def _log_progress(record: StepRecord) -> None:
    if record.skipped is not None:
        nncf_logger.warning(f"Importance training left out a step: {record.skipped}")
    elif record.step == 1 or record.step % _LOG_EVERY == 0:
        of = "" if record.total_steps is None else f" of {record.total_steps}"
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in record.losses.items())
        nncf_logger.info(f"Importance training, step {record.step}{of}: {losses}")
