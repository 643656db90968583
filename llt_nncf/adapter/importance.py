"""Start values and importance training inside NNCF's model creation, with the data that the script registered."""

from itertools import islice

from nncf import NNCFConfig
from nncf.common.logging import nncf_logger
from nncf.torch.nncf_network import NNCFNetwork

from llt_nncf.adapter.init_batches import InitBatches
from llt_nncf.config import ImportanceConfig
from llt_nncf.functional import training_mode
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators import train_indicators

_START_SAMPLES = 256
_LOG_EVERY = 50


def start_from_data(model: NNCFNetwork, quantizers: QuantizerSet, nncf_config: NNCFConfig) -> None:
    """Sets the step sizes to their start values from a few batches of the registered loader."""
    batches = InitBatches.for_statistics(nncf_config)
    count = max(1, _START_SAMPLES // batches.batch_size)
    start_step_sizes(model, quantizers, islice(batches, count), batches.forward)


def train_at_initialization(
    model: NNCFNetwork,
    quantizers: QuantizerSet,
    nncf_config: NNCFConfig,
    *,
    candidate_bits: tuple[int, ...],
    importance: ImportanceConfig,
) -> int:
    """
    Trains the indicators on the registered loader and criterion; returns the number of steps.

    With ``restore_weights`` everything but the step sizes is afterwards as it was before.

    :raises MissingInitArgsError: If no loader or criterion was registered.
    :raises TrainingDivergedError: If a loss or a step size becomes NaN or infinite.
    """
    batches = InitBatches.for_training(nncf_config)
    kept = {
        key: value.detach().clone()
        for key, value in model.state_dict().items()
        if importance.restore_weights and not key.endswith("raw_step_sizes")
    }
    with training_mode(model, True):
        result = train_indicators(
            model,
            quantizers,
            batches,
            batches.loss,
            candidate_bits=candidate_bits,
            epochs=importance.epochs,
            max_steps=importance.max_steps,
            learning_rate=importance.learning_rate,
            momentum=importance.momentum,
            weight_decay=importance.weight_decay,
            sampled_policies=importance.sampled_policies,
            aggregation=importance.aggregation,
            seed=importance.seed,
            on_step=_log_progress,
        )
    model.load_state_dict(kept, strict=False)
    return result.steps


def _log_progress(step: int, losses: dict[str, float]) -> None:
    if step == 1 or step % _LOG_EVERY == 0:
        worst, best = max(losses.values()), min(losses.values())
        nncf_logger.info(
            f"Importance training, step {step}: loss {best:.3f} to {worst:.3f} over {len(losses)} policies"
        )
