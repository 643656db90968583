"""The controller: what a training script holds on to."""

import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.common.accuracy_aware_training.training_loop import ADAPTIVE_COMPRESSION_CONTROLLERS
from nncf.common.logging import nncf_logger
from nncf.common.statistics import NNCFStatistics
from nncf.config.extractors import extract_algo_specific_config
from nncf.parameters import StripFormat
from nncf.torch.exporter import get_export_args
from nncf.torch.graph.transformations.commands import ExtraCompressionModuleType
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.quantization.algo import QuantizationController
from torch import nn

from llt_nncf.adapter.compression_rate import highest_rate
from llt_nncf.adapter.compression_rate import rate_of
from llt_nncf.adapter.compression_rate import search_at_rate
from llt_nncf.adapter.compression_state import ControllerState
from llt_nncf.adapter.compression_state import plain
from llt_nncf.adapter.data_parallel import refuse_data_parallel
from llt_nncf.adapter.freezing import copy_untrainable
from llt_nncf.adapter.freezing import freeze
from llt_nncf.adapter.importance import adapt_batch_norms
from llt_nncf.adapter.importance import importance_passes
from llt_nncf.adapter.layer_fold import layer_folds
from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.policy_report import PolicyReport
from llt_nncf.adapter.policy_search import search_policies
from llt_nncf.adapter.rounded_bias import exact_biases
from llt_nncf.adapter.rounded_bias import round_biases
from llt_nncf.adapter.saved_artifacts import save_artifact
from llt_nncf.adapter.scheduler import LltScheduler
from llt_nncf.adapter.score_source import ScoreSource
from llt_nncf.adapter.statistics import collect_statistics
from llt_nncf.adapter.statistics import text_columns
from llt_nncf.allocation import Allocation
from llt_nncf.allocation import RankedPolicy
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import LltConfig
from llt_nncf.errors import ExportError
from llt_nncf.errors import StageError
from llt_nncf.errors import located
from llt_nncf.export import export_onnx
from llt_nncf.indicators import ModelBuffers
from llt_nncf.indicators import QuantizerSet


@ADAPTIVE_COMPRESSION_CONTROLLERS.register(f"pt_{ALGORITHM_NAME}")
class LltQuantizationController(QuantizationController):
    """
    Takes the model through importance training, search and fine-tuning, and out by freezing and export.

    The positional parameters and the first keywords are those of NNCF's ``QuantizationController``.

    :param llt_config: The section's own values.
    :param survey: The model's layers.
    :param quantizers: Their quantizers; also as ``compression_ctrl.quantizers``, for ``train_indicators``.
    :param other_losses: Losses of the algorithms beside this one, which importance training adds to its own.
    """

    def __init__(
        self,
        target_model: NNCFNetwork,
        config: NNCFConfig,
        *nncf_arguments: Any,
        llt_config: LltConfig,
        survey: LayerSurvey,
        quantizers: QuantizerSet,
        other_losses: Sequence[Callable[[], Any]] = (),
        **nncf_keywords: Any,
    ):
        super().__init__(target_model, config, *nncf_arguments, **nncf_keywords)
        self._llt_config = llt_config
        self._survey = survey
        self.quantizers = quantizers
        self._scores = ScoreSource(target_model, quantizers, config, llt_config, other_losses)
        self._scheduler = LltScheduler(self, llt_config.importance.epochs)
        self._importance_steps = 0
        self._micro_batches = 0
        storage = target_model.nncf.get_compression_modules_by_type(ExtraCompressionModuleType.EXTERNAL_QUANTIZER)
        keys = {id(module.core): key for key, module in storage.items()}
        self._activation_keys = {name: keys[id(core)] for name, core in quantizers.activations.items()}
        self._applied: list[BitPolicy] = []
        self._report: PolicyReport | None = None
        self.indicators: IndicatorTable | None = None

    @property
    def policy(self) -> BitPolicy | None:
        """
        The policy in force, ``None`` before the search.

        It is the one that was applied last, or, once the state dict of an earlier one has been loaded, that one:
        accuracy-aware training ends with its best checkpoint.
        """
        if not self._applied:
            return None
        latest_first = reversed(self._applied)
        return next((x for x in latest_first if not self.quantizers.differing_from(x)), self._applied[-1])

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
        save_artifact(self.table, config, "layers.json")
        self._scores.start()
        self._broadcast_initialized_params_for_each_quantizer()
        if config.policy is not None:
            with located("compression.policy"):
                self.apply_policy(BitPolicy.load(config.policy))
            self._report_on(self.require_policy()).warn_of_budget()
            return
        if config.indicators is None:
            self._scores.check_budget()
        scores, self._importance_steps = self._scores.at_creation()
        if scores is not None:
            self.search(scores)

    def policies(self, model: nn.Module | None = None, *, accumulation_steps: int = 1) -> Iterator[str]:
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
        :param accumulation_steps: How many calls, each with a batch of its own, add up to one optimizer step: they go
            through the same policies, and step sizes get the gradients of one large batch. The call that begins an
            epoch begins a step, too.
        :return: Yields the name of each pass.
        :raises DataParallelError: If ``model`` is a ``DataParallel`` on several devices.
        """
        refuse_data_parallel(model)
        if self.policy is not None:
            yield "policy"
            return
        yield from importance_passes(self.quantizers, self._llt_config, step=self._importance_steps, model=model)
        self._micro_batches += 1
        if self._micro_batches >= accumulation_steps:
            self.complete_step()

    def complete_step(self) -> None:
        """Ends an optimizer step of importance training, if one is under way; so does the scheduler with an epoch."""
        self._importance_steps += self._micro_batches > 0
        self._micro_batches = 0

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
            indicators = self._scores.after_training(self._importance_steps)
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
        save_artifact(policy, self._llt_config, "policy.json")
        nncf_logger.info(f"Bit-widths in use:\n{self._report_on(policy).to_str(text_columns())}")

    @property
    def compression_rate(self) -> float | None:
        """Share of BitOPs that the policy saves against 8 bits everywhere; NNCF's accuracy-aware training sets it."""
        return None if self.policy is None else rate_of(self.policy, self.table)

    @compression_rate.setter
    def compression_rate(self, rate: float) -> None:
        self.apply_policy(search_at_rate(rate, self._llt_config, self.indicators, self.table))

    @property
    def maximal_compression_rate(self) -> float:
        """The rate of the lowest candidates, as far as ``search`` in the config lets them be chosen."""
        return highest_rate(self._llt_config, self.table)

    def disable_scheduler(self) -> None:
        """
        Nothing more to do once a policy is in force: from then on the scheduler only counts.

        :raises StageError: If the search is still to come, which the scheduler fires.
        """
        self._scheduler.require_search()

    def _best_by(self, evaluate: Callable[[BitPolicy], float], allocation: Allocation) -> BitPolicy:
        """The policy of the least result; bits and batch norms are afterwards as they were before."""
        applied = list(self._applied)
        buffers = ModelBuffers([self.model], self.quantizers)
        before = buffers.copies()

        def measured(ranked: RankedPolicy) -> tuple[bool, float]:
            buffers.put_back(before)  # else each would go on from what the one before it has left
            self._switch_to(ranked.policy)
            loss = evaluate(ranked.policy)
            return math.isnan(loss), loss

        try:
            with self.quantizers.keeping_bits():
                return min(allocation.ranking, key=measured).policy
        finally:
            buffers.put_back(before)
            self._applied = applied
            if not applied:
                self._take_out_of_force()

    def _switch_to(self, policy: BitPolicy) -> None:
        self._put_in_force(policy)
        adapt_batch_norms(self.model, self.config)

    def _put_in_force(self, policy: BitPolicy) -> None:
        self.quantizers.apply(policy)
        if not self._applied:
            round_biases(layer_folds(self.model, self._survey, self._activation_keys))
        self._applied.append(policy)

    def _take_out_of_force(self) -> None:
        self._applied = []
        exact_biases(layer_folds(self.model, self._survey, self._activation_keys))

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
            epoch=self.scheduler.current_epoch,
            importance_epochs=self._llt_config.importance.epochs,
        )

    def get_state(self) -> dict[str, dict[str, Any]]:
        # A step that an epoch's end cuts short counts, as it will with the next epoch_step; a resume begins another.
        steps = self._importance_steps + (self._micro_batches > 0)
        own = ControllerState(steps, self.policy, self.indicators, self._llt_config.budget_values)
        return plain({self.name: {**super().get_state()[self.name], **own.to_dict()}})

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        own = ControllerState.from_dict(state[self.name], self.table)
        self._importance_steps, self._micro_batches, self.indicators = own.importance_steps, 0, own.indicators
        if own.policy is None:
            self._take_out_of_force()
        else:
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
            model = copy_untrainable(model)
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
            (*args, kwargs),
            save_path,
            policy=self.policy,
            input_names=input_names,
            output_names=output_names,
        )

    def _get_algo_config(self) -> dict[str, Any]:
        # Without what is always so here, and makes NNCF warn that it is deprecated.
        section = extract_algo_specific_config(self.config, ALGORITHM_NAME)
        return {key: value for key, value in section.items() if key != "export_to_onnx_standard_ops"}
