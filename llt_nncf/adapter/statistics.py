"""What ``compression_ctrl.statistics()`` returns: NNCF's quantization statistics, and how far the training has come."""

import shutil
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from nncf.api.compression import CompressionStage
from nncf.common.quantization.statistics import QuantizationStatistics
from nncf.common.quantization.statistics import QuantizersCounter
from nncf.common.statistics import NNCFStatistics
from nncf.common.utils.tensorboard import convert_to_dict

from llt_nncf.adapter.policy_report import PolicyReport
from llt_nncf.adapter.policy_report import aligned
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.indicators import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer

_LEAST_COLUMNS = 70


class LltStatistics(QuantizationStatistics):
    """
    Counts of quantizers by kind and bit-width, as NNCF's own statistics have them; policy, cost and indicators.

    :param quantizers: All quantizers.
    :param report: The policy in force, or ``None`` before the search.
    :param indicators: What it was searched with, or, before the search, the step sizes as they are now; ``None`` if
        there are none, or they were not to be collected.
    :param importance_steps: Optimizer steps of importance training.
    :param epoch: The epoch by the scheduler, from 0; -1 before the first.
    :param importance_epochs: Epochs of importance training in the script's loop.
    """

    def __init__(
        self,
        quantizers: QuantizerSet,
        report: PolicyReport | None,
        indicators: IndicatorTable | None,
        *,
        importance_steps: int,
        epoch: int,
        importance_epochs: int,
    ):
        super().__init__(
            wq_counter=_count(quantizers.weights.values()),
            aq_counter=_count(quantizers.activations.values()),
            num_wq_per_bitwidth=Counter(quantizer.num_bits for quantizer in quantizers.weights.values()),
            num_aq_per_bitwidth=Counter(quantizer.num_bits for quantizer in quantizers.activations.values()),
            ratio_of_enabled_quantizations=100.0,
        )
        self.table = quantizers.table
        self.report = report
        self.policy = None if report is None else report.policy
        self.indicators = indicators
        self.importance_steps = importance_steps
        is_done = report is not None
        self.stage = CompressionStage.FULLY_COMPRESSED if is_done else CompressionStage.PARTIALLY_COMPRESSED
        self._epoch = epoch
        self._importance_epochs = importance_epochs

    def to_str(self, columns: int | None = None) -> str:
        """
        Returns everything as text.

        :param columns: Width of a line; by default that of the terminal, or 80.
        """
        if self.report is None:
            parts = [self._progress()]
        else:
            parts = [self.report.to_str(text_columns() if columns is None else max(columns, _LEAST_COLUMNS))]
        if self.indicators is not None:
            parts += [f"indicators: {self.indicators.source}", *_spreads(self.indicators)]
        return "\n".join(parts)

    def _progress(self) -> str:
        of = self._importance_epochs
        where = f", in epoch {self._epoch + 1} of {of}" if self._epoch >= 0 else ""
        return (
            f"llt_quantization: importance indicators are being trained, {self.importance_steps} steps so far{where}.\n"
            f"No bit-widths are chosen yet; the search comes when epoch {of + 1} begins."
        )


def collect_statistics(
    quantizers: QuantizerSet,
    report: PolicyReport | None,
    indicators: IndicatorTable | None,
    *,
    quickly_collected_only: bool,
    **progress: int,
) -> NNCFStatistics:
    """
    Returns NNCF's statistics with ours in ``quantization``.

    :param quickly_collected_only: Leaves out the step sizes of an importance training that is under way.
    :param progress: ``importance_steps``, ``epoch`` and ``importance_epochs``; like the others as in ``LltStatistics``.
    """
    if report is None and not quickly_collected_only:
        with suppress(InvalidIndicatorError):  # that ends the training, not its statistics
            indicators = quantizers.read_indicators("step sizes as they are now")
    statistics = NNCFStatistics()
    statistics.register("quantization", LltStatistics(quantizers, report, indicators, **progress))
    return statistics


@convert_to_dict.register(LltStatistics)
def scalars(statistics: LltStatistics, algorithm_name: str) -> dict[str, float]:
    """Returns what ``prepare_for_tensorboard`` shows; cost and used share of each limit once there is a policy."""
    values: dict[str, float] = {"importance_steps": statistics.importance_steps}
    if statistics.report is not None:
        cost = statistics.report.cost
        values |= {
            **cost.totals(),
            "average_weight_bits": cost.average_weight_bits,
            "average_activation_bits": cost.average_activation_bits,
            **{f"used/{share.name}": share.share for share in statistics.report.shares},
        }
    return {f"{algorithm_name}/{name}": float(value) for name, value in values.items()}


def text_columns() -> int:
    """Returns the width of the terminal, or 80 where there is none."""
    return max(shutil.get_terminal_size().columns, _LEAST_COLUMNS)


def _spreads(indicators: IndicatorTable) -> list[str]:
    """For each bit-width the least, the middle and the largest indicator of the layers that are searched."""
    rows: list[tuple[str, ...]] = [("quantizers of", "bits", "number", "least", "median", "largest")]
    kinds: tuple[tuple[str, Mapping[str, Mapping[int, float]]], ...] = (
        ("weights", indicators.weights),
        ("activations", indicators.activations),
    )
    for kind, table in kinds:
        values: dict[int, list[float]] = {}
        for by_bits in table.values():
            for bits, value in by_bits.items() if len(by_bits) > 1 else ():
                values.setdefault(bits, []).append(value)
        for bits in sorted(values, reverse=True):
            three = np.quantile(values[bits], [0.0, 0.5, 1.0])
            rows.append((kind, str(bits), str(len(values[bits])), *(f"{value:.4g}" for value in three)))
    return aligned(rows)


def _count(quantizers: Iterable[SwitchableQuantizer]) -> QuantizersCounter:
    quantizers = list(quantizers)
    signed = sum(quantizer.signed for quantizer in quantizers)
    per_channel = sum(quantizer.scale_shape != (1,) for quantizer in quantizers)
    total = len(quantizers)
    return QuantizersCounter(
        num_symmetric=total,
        num_signed=signed,
        num_unsigned=total - signed,
        num_per_tensor=total - per_channel,
        num_per_channel=per_channel,
        total_count=total,
        potential_count=total,
    )
