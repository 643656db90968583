"""Where the scores come from that the search minimises: a file, start values, a function, or importance training."""

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nncf import NNCFConfig
from nncf.torch.nncf_network import NNCFNetwork

from llt_nncf.adapter.importance import finish_training
from llt_nncf.adapter.importance import normalize_by_data
from llt_nncf.adapter.importance import score_by_plugin
from llt_nncf.adapter.importance import start_from_data
from llt_nncf.adapter.importance import train_at_initialization
from llt_nncf.adapter.policy_search import search_policies
from llt_nncf.adapter.saved_artifacts import save_artifact
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.config import LltConfig
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import SearchNotProvenError
from llt_nncf.errors import located
from llt_nncf.indicators import OWN_INDICATORS
from llt_nncf.indicators import QuantizerSet

Scores = IndicatorTable | PairScoreTable


class ScoreSource:
    """
    Makes the scores that the config asks for, of a model with quantizers, and keeps them in ``artifacts_dir``.

    :param model: The compressed model.
    :param quantizers: Its quantizers.
    :param nncf_config: With the registered loader and criterion.
    :param config: The section's own values.
    :param other_losses: Of the algorithms beside this one; importance training adds them to its own.
    """

    def __init__(
        self,
        model: NNCFNetwork,
        quantizers: QuantizerSet,
        nncf_config: NNCFConfig,
        config: LltConfig,
        other_losses: Sequence[Callable[[], Any]],
    ):
        self._model = model
        self._quantizers = quantizers
        self._nncf_config = nncf_config
        self._config = config
        self._other_losses = other_losses

    def start(self) -> None:
        """
        Gives the step sizes their start values.

        :raises MissingInitArgsError: If no loader was registered.
        """
        start_from_data(self._model, self._quantizers, self._nncf_config, self._config.importance.start_values)

    def check_budget(self) -> None:
        """
        Searches once on the start values, so that a budget that cannot be met ends here and not after training.

        :raises InfeasibleBudgetError: If no policy meets the budget.
        """
        with suppress(SearchNotProvenError, InvalidIndicatorError):
            search_policies(self._config, self._quantizers.read_indicators("start values"), self._quantizers.table)

    def at_creation(self) -> tuple[Scores | None, int]:
        """
        Returns the scores and the number of training steps that they took; ``None`` if the script's loop makes them.

        :raises MissingInitArgsError: If training is to be done here and no loader or criterion was registered.
        :raises TrainingDivergedError: If a loss or a gradient becomes NaN or infinite.
        """
        importance, steps = self._config.importance, 0
        scores: Scores
        if self._config.indicators is not None:
            with located("compression.indicators"):
                return load_scored_layers(self._config.indicators), steps
        if importance.indicator == "statistics":
            scores = self._quantizers.read_indicators(f"start values ({importance.start_values})")
        elif importance.indicator not in OWN_INDICATORS:
            scores = score_by_plugin(importance.indicator, self._model, self._quantizers, self._nncf_config)
        elif importance.where == "init":
            result, scores = train_at_initialization(
                self._model,
                self._quantizers,
                self._nncf_config,
                self._config,
                read=self._final,
                other_losses=self._other_losses,
            )
            steps = result.steps
        else:
            return None, steps
        self._save(scores)
        if steps:
            finish_training(self._config)
        return scores, steps

    def after_training(self, steps: int) -> IndicatorTable:
        """Returns the step sizes as they are after ``steps`` of the script's own loop, normalized if so asked."""
        seed = self._config.importance.seed
        source = f"step sizes after {steps} steps of importance training, seed {seed}"
        indicators = self._final(self._quantizers.read_indicators(source))
        self._save(indicators)
        return indicators

    def _final(self, indicators: IndicatorTable) -> IndicatorTable:
        if self._config.importance.indicator != "normalized":
            return indicators
        return normalize_by_data(indicators, self._model, self._quantizers, self._nncf_config)

    def _save(self, scores: Scores) -> None:
        name = "indicators.json" if isinstance(scores, IndicatorTable) else "scores.json"
        save_artifact(scores, self._config, name)
