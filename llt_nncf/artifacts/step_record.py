"""What is known after one step of importance training."""

from collections.abc import Mapping
from dataclasses import dataclass

from llt_nncf.artifacts.indicator_table import IndicatorTable


@dataclass(frozen=True)
class StepRecord:
    """
    One optimizer step, for logs and progress bars.

    :param step: Number of steps done, from 1.
    :param total_steps: Number that will be done, or ``None`` if the loader does not know its length.
    :param epoch: The epoch, from 0.
    :param learning_rate: Of the weights, in this step.
    :param losses: Loss of each pass by its name: ``uniform-6``, ..., ``sampled-0``.
    :param indicators: The indicators after the step; only every few steps.
    :param tau: Kendall's tau of the layers' ranking now against that of a window ago; only beside ``indicators``.
    :param tau_from_start: The same against the ranking by the start values.
    :param skipped: Why the update was left out, if it was.
    """

    step: int
    total_steps: int | None
    epoch: int
    learning_rate: float
    losses: Mapping[str, float]
    indicators: IndicatorTable | None = None
    tau: float | None = None
    tau_from_start: float | None = None
    skipped: str | None = None
