"""The controller: what a training script holds on to."""

import copy
import math
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import nullcontext
from contextlib import suppress
from pathlib import Path
from typing import Any

from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.common.logging import nncf_logger
from nncf.common.statistics import NNCFStatistics
from nncf.config.extractors import extract_algo_specific_config
from nncf.parameters import StripFormat
from nncf.torch.exporter import get_export_args
from nncf.torch.graph.transformations.commands import ExtraCompressionModuleType
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.quantization.algo import QuantizationController
from nncf.torch.utils import is_main_process
from torch import nn

from llt_nncf.adapter.compression_state import ControllerState
from llt_nncf.adapter.compression_state import plain
from llt_nncf.adapter.freezing import freeze
from llt_nncf.adapter.importance import adapt_batch_norms
from llt_nncf.adapter.importance import finish_training
from llt_nncf.adapter.importance import normalize_by_data
from llt_nncf.adapter.importance import score_by_plugin
from llt_nncf.adapter.importance import start_from_data
from llt_nncf.adapter.importance import train_at_initialization
from llt_nncf.adapter.layer_fold import layer_folds
from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.policy_report import PolicyReport
from llt_nncf.adapter.policy_search import search_policies
from llt_nncf.adapter.rounded_bias import round_biases
from llt_nncf.adapter.scheduler import LltScheduler
from llt_nncf.adapter.statistics import collect_statistics
from llt_nncf.adapter.statistics import text_columns
from llt_nncf.allocation import Allocation
from llt_nncf.allocation import RankedPolicy
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import LltConfig
from llt_nncf.errors import ExportError
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import SearchNotProvenError
from llt_nncf.errors import StageError
from llt_nncf.export import export_onnx
from llt_nncf.indicators import OWN_INDICATORS
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import policy_rounds
from llt_nncf.indicators import rank_count


class LltQuantizationController(QuantizationController):
    """
    Takes the model through importance training, search and fine-tuning, and out by freezing and export.

    The positional parameters and the first keywords are those of NNCF's ``QuantizationController``.

    :param llt_config: The section's own values.
    :param survey: The model's layers.
    :param quantizers: Their quantizers; also as ``compression_ctrl.quantizers``, for ``train_indicators``.
    """

    def __init__(
        self,
        target_model: NNCFNetwork,
        config: NNCFConfig,
        *nncf_arguments: Any,
        llt_config: LltConfig,
        survey: LayerSurvey,
        quantizers: QuantizerSet,
        **nncf_keywords: Any,
    ):
        super().__init__(target_model, config, *nncf_arguments, **nncf_keywords)
        self._llt_config = llt_config
        self._survey = survey
        self.quantizers = quantizers
        self._scheduler = LltScheduler(self, llt_config.importance.epochs)
        self._importance_steps = 0
        storage = target_model.nncf.get_compression_modules_by_type(ExtraCompressionModuleType.EXTERNAL_QUANTIZER)
        keys = {id(module.core): key for key, module in storage.items()}
        self._activation_keys = {name: keys[id(core)] for name, core in quantizers.activations.items()}
        self.policy: BitPolicy | None = None
        self._report: PolicyReport | None = None
        self.indicators: IndicatorTable | None = None

    @property
    def table(self) -> LayerTable:
        """The model's layers."""
        return self._survey.table

    def initialize(self) -> None:
        """
        Start values, and then, by the config: a given policy; a search on given indicators; importance training and
        search; or nothing more, when the script's own loop trains the indicators.

        :raises InfeasibleBudgetError: Before any training, if no policy meets the budget.
        :raises MissingInitArgsError: If training is to be done here and no loader or criterion was registered.
        """
        config = self._llt_config
        self._save("layers.json", self.table)
        start_from_data(self.model, self.quantizers, self.config, config.importance.start_values)
        self._broadcast_initialized_params_for_each_quantizer()
        if config.budget is not None and config.policy is None and config.indicators is None:
            # Searches once on the start values, so that a budget that cannot be met ends here and not after training.
            with suppress(SearchNotProvenError, InvalidIndicatorError):
                search_policies(config, self.quantizers.read_indicators("start values"), self.table)
        if config.policy is not None:
            self.apply_policy(BitPolicy.load(config.policy))
        elif config.indicators is not None:
            self.search(load_scored_layers(config.indicators))
        elif config.importance.indicator == "statistics":
            indicators = self.quantizers.read_indicators(f"start values ({config.importance.start_values})")
            self._save("indicators.json", indicators)
            self.search(indicators)
        elif config.importance.indicator not in OWN_INDICATORS:
            scores = score_by_plugin(config.importance.indicator, self.model, self.quantizers, self.config)
            self._save("scores.json", scores)
            self.search(scores)
        elif config.importance.where == "init":
            result, indicators = train_at_initialization(
                self.model,
                self.quantizers,
                self.config,
                candidate_bits=config.candidate_bits,
                importance=config.importance,
                folder=config.artifacts_dir,
                read=self._final_indicators,
            )
            self._importance_steps = result.steps
            self._save("indicators.json", indicators)
            if config.artifacts_dir is not None and is_main_process():
                finish_training(Path(config.artifacts_dir))
            self.search(indicators)

    def policies(self, model: nn.Module | None = None) -> Iterator[str]:
        """
        Switches the quantizers through the passes of one step; the loop body does one forward and backward pass.

        While the indicators are trained these are the uniform policies and the sampled ones (Algorithm 1), whose
        gradients add up; afterwards it is exactly one pass with the chosen policy. ::

            optimizer.zero_grad()
            for _ in compression_ctrl.policies():
                loss = criterion(model(images), target) + compression_ctrl.loss()
                loss.backward()
            optimizer.step()

        :param model: A ``DistributedDataParallel`` wrapper, whose gradients are then exchanged in the last pass only.
        :return: Yields the name of each pass.
        """
        for quantizer in self.quantizers.activations.values():
            quantizer.batch_parts = rank_count()
        if self.policy is not None:
            yield "policy"
            return
        importance = self._llt_config.importance
        candidates = self._llt_config.candidate_bits
        last = len(candidates) + importance.sampled_policies - 1
        rounds = policy_rounds(
            self.quantizers,
            candidates,
            sampled_policies=importance.sampled_policies,
            seed=importance.seed,
            step=self._importance_steps,
            tie_weight_activation=importance.tie_weight_activation,
        )
        no_sync = getattr(model, "no_sync", nullcontext)
        for index, name in enumerate(rounds):
            with no_sync() if index < last else nullcontext():
                yield name
        self._importance_steps += 1
        # What is evaluated or saved between the steps shall not be the sampled policy that came last.
        for quantizer in self.quantizers.all():
            quantizer.num_bits = max(quantizer.candidate_bits)

    def search(
        self,
        indicators: IndicatorTable | PairScoreTable | None = None,
        *,
        evaluate: Callable[[BitPolicy], float] | None = None,
    ) -> BitPolicy:
        """
        Finds the policy of the least summed importance within the budget, and switches to it.

        :param indicators: Indicators of this model's layers, or scores of their pairs of bits; by default the step
            sizes as they are now.
        :param evaluate: Called for each of the ``search.k_best`` best policies, with the model switched to it and its
            batch norms adapted; the policy with the smallest result is taken. For example the loss on a few batches;
            of several ranks, all must get the same.
        :return: The policy, also in ``self.policy``.
        :raises StageError: If the script's loop was to train the indicators and never went through ``policies()``, or
            the config has no budget.
        :raises InfeasibleBudgetError: If no policy meets the budget.
        """
        if indicators is None:
            if self._importance_steps == 0:
                msg = (
                    "The search was due, but no importance training has happened: wrap forward and backward in "
                    '"for _ in compression_ctrl.policies():", or set compression.importance.where to "init".'
                )
                raise StageError(msg)
            seed = self._llt_config.importance.seed
            source = f"step sizes after {self._importance_steps} steps of importance training, seed {seed}"
            indicators = self._final_indicators(self.quantizers.read_indicators(source))
            self._save("indicators.json", indicators)
        k_best = 1 if evaluate is None else self._llt_config.search.k_best
        allocation = search_policies(self._llt_config, indicators, self.table, k_best=k_best)
        self.indicators = indicators if isinstance(indicators, IndicatorTable) else None
        policy = allocation.policy if evaluate is None else self._best_by(evaluate, allocation)
        self.apply_policy(policy)
        return policy

    def apply_policy(self, policy: BitPolicy) -> None:
        """
        Switches every quantizer to ``policy`` and adapts the batch norms to it.

        :raises ArtifactError: If the policy does not fit the model's layers.
        """
        self._switch_to(policy)
        self._save("policy.json", policy)
        nncf_logger.info(f"Bit-widths in use:\n{self._report_on(policy).to_str(text_columns())}")

    def _best_by(self, evaluate: Callable[[BitPolicy], float], allocation: Allocation) -> BitPolicy:
        def measured(ranked: RankedPolicy) -> tuple[bool, float]:
            self._switch_to(ranked.policy)
            loss = evaluate(ranked.policy)
            return math.isnan(loss), loss

        return min(allocation.ranking, key=measured).policy

    def _switch_to(self, policy: BitPolicy) -> None:
        self._put_in_force(policy)
        adapt_batch_norms(self.model, self.config)

    def _put_in_force(self, policy: BitPolicy) -> None:
        self.quantizers.apply(policy)
        if self.policy is None:
            round_biases(layer_folds(self.model, self._survey, self._activation_keys))
        self.policy = policy

    def _report_on(self, policy: BitPolicy) -> PolicyReport:
        # Kept, so that statistics in every step work out nothing anew.
        if self._report is None or self._report.policy is not policy:
            self._report = PolicyReport(policy, self.table, self._llt_config.budget)
        return self._report

    def require_policy(self) -> BitPolicy:
        """
        Returns the policy in force.

        :raises StageError: If there is none yet.
        """
        if self.policy is None:
            msg = "There is no policy to freeze yet: the search comes after importance training; strip or export then."
            raise StageError(msg)
        return self.policy

    def compression_stage(self) -> CompressionStage:
        """Fully compressed once a policy is in force, partially while the indicators are trained."""
        return CompressionStage.PARTIALLY_COMPRESSED if self.policy is None else CompressionStage.FULLY_COMPRESSED

    def statistics(self, quickly_collected_only: bool = False) -> NNCFStatistics:
        """
        Returns NNCF's statistics with policy, cost and indicators in ``quantization``.

        :param quickly_collected_only: Leaves out the step sizes of an importance training that is under way.
        """
        policy = self.policy
        return collect_statistics(
            self.quantizers,
            None if policy is None else self._report_on(policy),
            self.indicators,
            quickly_collected_only=quickly_collected_only,
            importance_steps=self._importance_steps,
            epoch=getattr(self.scheduler, "current_epoch", -1),  # NNCF's stub of a disabled scheduler has none
            importance_epochs=self._llt_config.importance.epochs,
        )

    def get_state(self) -> dict[str, dict[str, Any]]:
        own = ControllerState(self._importance_steps, self.policy, self.indicators, self._llt_config.budget_values)
        return plain({self.name: {**super().get_state()[self.name], **own.to_dict()}})

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        own = ControllerState.from_dict(state[self.name], self.table)
        self._importance_steps, self.indicators = own.importance_steps, own.indicators
        if own.policy is not None:
            self._put_in_force(own.policy)
            own.warn_of_budget(self._llt_config.budget_values)
        super().load_state(state)

    def strip_model(
        self, model: NNCFNetwork, do_copy: bool = False, strip_format: StripFormat = StripFormat.NATIVE
    ) -> NNCFNetwork:
        """
        Freezes the model: integer weights, fixed activation grids, folded batch norms, biases on the int32 grid.

        :param model: The compressed model.
        :param do_copy: Leaves ``model`` as it is and returns a copy.
        :param strip_format: Only NNCF's default.
        :return: The frozen model, in evaluation mode; ``export_onnx`` takes it.
        :raises StageError: If no policy is in force yet, or the quantizers have other bits than the policy.
        """
        policy = self.require_policy()
        if strip_format != StripFormat.NATIVE:
            msg = f"strip_format={strip_format} is not supported: use the default, StripFormat.NATIVE."
            raise ExportError(msg)
        differing = self.quantizers.differing_from(policy)
        if differing:
            msg = (
                f"These quantizers do not have the policy's bits: {', '.join(differing)}. A state dict of another "
                "policy was loaded; create the model with the compression_state= that was saved beside it."
            )
            raise StageError(msg)
        if do_copy:
            # Without the controller, which holds on to the training data.
            model.nncf.set_compression_controller(None)
            try:
                frozen = copy.deepcopy(model)
            finally:
                model.nncf.set_compression_controller(self)
            model = frozen
        freeze(model, self._survey, self._activation_keys)
        return model

    def export_model(
        self,
        save_path: str,
        save_format: str | None = None,
        input_names: list[str] | None = None,
        output_names: list[str] | None = None,
        model_args: tuple[Any, ...] | None = None,
    ) -> None:
        """
        Writes the frozen model as ONNX in which ONNX Runtime and OpenVINO run int8 kernels; the model stays trainable.

        The file is not run: ``llt_nncf.pipeline.deploy`` and ``llt-nncf export`` leave only files that were validated.

        :param save_path: The file.
        :param save_format: ``None`` or ``onnx``.
        :param input_names: Names of the graph's inputs.
        :param output_names: Names of the graph's outputs.
        :param model_args: Further arguments of the model's forward, as NNCF's ``export_model`` takes them.
        :raises StageError: If no policy is in force yet.
        :raises ExportError: If the format is another one, or a node cannot be written exactly.
        """
        if save_format not in (None, "onnx"):
            msg = f"save_format={save_format!r} is not supported: leave it out or give 'onnx'."
            raise ExportError(msg)
        frozen = self.strip_model(self.model, do_copy=True).cpu()
        *args, kwargs = get_export_args(frozen, model_args=model_args, device="cpu")
        export_onnx(
            frozen,
            (*args, kwargs) if kwargs else tuple(args),
            save_path,
            policy=self.policy,
            input_names=input_names,
            output_names=output_names,
        )

    def _get_algo_config(self) -> dict[str, Any]:
        return extract_algo_specific_config(self.config, ALGORITHM_NAME)

    def _final_indicators(self, indicators: IndicatorTable) -> IndicatorTable:
        if self._llt_config.importance.indicator != "normalized":
            return indicators
        return normalize_by_data(indicators, self.model, self.quantizers, self.config)

    def _save(self, file_name: str, artifact: Any) -> None:
        if self._llt_config.artifacts_dir is not None and is_main_process():
            artifact.save(Path(self._llt_config.artifacts_dir) / file_name)
