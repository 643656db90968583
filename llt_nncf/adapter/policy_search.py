"""The search as the config asks for it."""

from functools import partial

from nncf.common.logging import nncf_logger

from llt_nncf.allocation import Allocation
from llt_nncf.allocation import Restrictions
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.config import LltConfig
from llt_nncf.errors import StageError
from llt_nncf.indicators import made_by_first_rank


def restrictions_of(config: LltConfig) -> Restrictions:
    """Returns what the config's ``search`` leaves to choose from."""
    search = config.search
    return Restrictions(search.weight_bits, search.activation_bits, search.weight_only, search.tied)


def search_policies(
    config: LltConfig, indicators: IndicatorTable | PairScoreTable, table: LayerTable, *, k_best: int = 1
) -> Allocation:
    """
    Finds the best policies within the config's budget; of several ranks the first, for all of them.

    :param config: Budget, alpha and the options of ``search``.
    :param indicators: Indicators, or scores of pairs of bits.
    :param table: The model's layers, which must be those of ``indicators``.
    :param k_best: How many policies.
    :raises StageError: If the config has no budget, or the indicators are of other layers.
    :raises InfeasibleBudgetError: If no policy meets the budget.
    """
    if config.budget is None:
        msg = "The search needs compression.budget in the config."
        raise StageError(msg)
    if indicators.table != table:
        theirs, ours = indicators.table.by_name, table.by_name
        differing = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
        msg = (
            "The indicators were trained for other layers, candidates or input sizes than this model's. These "
            f"differ: {', '.join(differing) or 'quantizers that feed no layer'}. Train them again."
        )
        raise StageError(msg)
    search = config.search
    search_once = partial(
        allocate_bits,
        indicators,
        config.budget,
        alpha=config.alpha,
        power=search.power,
        restrictions=restrictions_of(config),
        outliers=search.outliers,
        k_best=k_best,
        tolerance=search.tolerance,
        time_limit_s=config.search_time_limit_s,
    )
    # On every rank it could end otherwise on each: the limit of time is one of wall time.
    allocation = made_by_first_rank(search_once)
    if allocation.outliers:
        named = ", ".join(f"{outlier.kind} of {outlier.name}" for outlier in allocation.outliers)
        nncf_logger.info(f"Indicators that fall as the bits do (search.outliers: {search.outliers}): {named}")
    return allocation
