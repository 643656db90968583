"""The builder: NNCF's quantization with switchable quantizers in the places of its own."""

from typing import Any

import torch
from nncf import NNCFConfig
from nncf import ValidationError
from nncf.config.extractors import extract_range_init_params
from nncf.torch.algo_selector import PT_COMPRESSION_ALGORITHMS
from nncf.torch.graph.transformations.layout import PTTransformationLayout
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.quantization.algo import QuantizationBuilder
from nncf.torch.quantization.init_range import PTRangeInitParams
from nncf.torch.quantization.layers import PTQuantizerSetup

from llt_nncf.adapter.compression_state import BuilderState
from llt_nncf.adapter.controller import LltQuantizationController
from llt_nncf.adapter.init_batches import InitBatches
from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.layer_survey import assign_candidates
from llt_nncf.adapter.layer_survey import survey_layers
from llt_nncf.adapter.layer_survey import weighted_nodes
from llt_nncf.adapter.nncf_quantizer import SwitchableQuantizerSpec
from llt_nncf.adapter.nncf_schema import check_config
from llt_nncf.artifacts import reading
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import LltConfig
from llt_nncf.errors import ConfigError
from llt_nncf.indicators import QuantizerSet


@PT_COMPRESSION_ALGORITHMS.register(ALGORITHM_NAME)
class LltQuantizationBuilder(QuantizationBuilder):
    """
    Places quantizers with NNCF's solver, scopes, hardware config and range initialisation.

    :param config: The NNCF config; its section is checked here too, for configs that were not loaded from JSON.
    :param should_init: ``False`` on resume: no initialisation, no importance training, no search.
    :raises ConfigError: If the section has faults.
    :raises MissingInitArgsError: If no data loader was registered.
    """

    def __init__(self, config: NNCFConfig, should_init: bool = True):
        check_config(config)
        super().__init__(config, should_init)
        self._llt_config = LltConfig.from_section(self._algo_config, log_dir=config.get("log_dir"))
        self._survey: LayerSurvey  # made with the transformation layout
        self._weight_shapes: dict[str, tuple[int, ...]]  # likewise
        self._saved: BuilderState | None = None  # of a resumed run

    def _get_algo_specific_config_section(self) -> dict[str, Any]:
        section = super()._get_algo_specific_config_section()
        # One step size per tensor unless asked otherwise: it is the importance indicator, and folding batch norm makes
        # it one per channel in the exported file anyway. The overflow fix would make 8-bit weights 7-bit ones behind
        # the policy's back; "fixed_bits": 7 says so openly.
        weights = {"per_channel": False, **section.get("weights", {})}
        return {**section, "weights": weights, "overflow_fix": "disable"}

    def _parse_init_params(self) -> None:
        # The base class looks for its own algorithm's name in the config, and for HAWQ's settings.
        InitBatches.for_statistics(self.config)
        try:
            params = extract_range_init_params(self.config, self.name)
        except ValueError as error:  # what NNCF's schema does not see
            msg = f"compression.initializer.range: {error}"
            raise ConfigError(msg) from error
        adaptation = self._algo_config.get("initializer", {}).get("batchnorm_adaptation", {})
        samples = adaptation.get("num_bn_adaptation_samples", 0)
        if samples < 0:  # NNCF would say so after the importance training
            msg = (
                f"compression.initializer.batchnorm_adaptation.num_bn_adaptation_samples={samples}: must be at least 0."
            )
            raise ConfigError(msg)
        self._range_init_params = None if params is None else PTRangeInitParams(**params)

    def _get_quantizer_setup(self, target_model: NNCFNetwork) -> PTQuantizerSetup:
        setup = super()._get_quantizer_setup(target_model)
        assign_candidates(
            setup,
            target_model.nncf.get_original_graph(),
            candidate_bits=self._llt_config.candidate_bits,
            fixed_bits=self._llt_config.fixed_bits,
            activation_bits=self._llt_config.activation_bits,
        )
        return setup

    def get_transformation_layout(self, model: NNCFNetwork) -> PTTransformationLayout:
        try:
            return super().get_transformation_layout(model)
        except ValidationError as error:
            msg = f"compression.ignored_scopes, compression.target_scopes: {error}"
            raise ConfigError(msg) from error

    def _get_transformation_layout(self, target_model: NNCFNetwork) -> PTTransformationLayout:
        # In evaluation without gradients nn.MultiheadAttention would go by one fused kernel, past all its quantizers.
        torch.backends.mha.set_fastpath_enabled(False)
        layers = weighted_nodes(target_model)
        self._weight_shapes = dict(layers.values())
        if self._saved is None:
            layout = super()._get_transformation_layout(target_model)
        else:
            nodes = target_model.nncf.get_original_graph().get_all_nodes()
            self._saved.check_model(layers, {node.node_name for node in nodes})
            with reading("compression_state", "a state of this model"):
                layout = super()._get_transformation_layout(target_model)
        self._survey = survey_layers(self._pt_quantizer_setup, target_model)
        if self._saved is not None:
            self._saved.check_table(self._survey.table)
        return layout

    def _load_state_without_name(self, state_without_name: dict[str, Any]) -> None:
        self._saved = saved = BuilderState.from_dict(state_without_name)
        with reading("compression_state", "a state of this algorithm's quantizers"):
            super()._load_state_without_name(state_without_name)
        for point_id, spec in saved.specs.items():
            self._pt_quantizer_setup.quantization_points[point_id].qspec = SwitchableQuantizerSpec(**spec)
        if saved.candidate_bits not in (None, self._llt_config.candidate_bits):
            msg = (
                f"compression.candidate_bits={list(self._llt_config.candidate_bits)}: the compression state was saved "
                f"with {list(saved.candidate_bits or ())}; resume with the same, and the same compression.target."
            )
            raise ConfigError(msg)

    def _get_state_without_name(self) -> dict[str, Any]:
        return BuilderState.to_dict(
            super()._get_state_without_name(),
            table=self._survey.table,
            weight_shapes=self._weight_shapes,
            candidate_bits=self._llt_config.candidate_bits,
        )

    def _are_frozen_layers_allowed(self) -> tuple[bool, str]:
        return (
            True,
            f"Frozen layers are allowed for {ALGORITHM_NAME}: their step sizes are trained, their weights are not",
        )

    def initialize(self, model: NNCFNetwork) -> None:
        """Left to the controller, which has what it takes; NNCF builds that right after."""

    def _build_controller(self, model: NNCFNetwork) -> LltQuantizationController:
        controller = LltQuantizationController(
            model,
            self.config,
            self._debug_interface,
            self._weight_quantizers,
            self._non_weight_quantizers,
            self._groups_of_adjacent_quantizers,
            self._quantizers_input_shapes,
            build_time_metric_info=self._build_time_metric_infos,
            build_time_range_init_params=self._range_init_params,
            llt_config=self._llt_config,
            survey=self._survey,
            quantizers=self._quantizer_set(),
        )
        if self.should_init:
            controller.initialize()
        return controller

    def _quantizer_set(self) -> QuantizerSet:
        modules = {**self._weight_quantizers, **self._non_weight_quantizers}
        by_point = {
            point_id: modules[module_id].quantizer_module_ref.core
            for point_id, module_id in self._setup_to_module_id_translation_dict.items()
        }
        weights = {name: by_point[point] for name, point in self._survey.weight_points.items()}
        activations = {name: by_point[point] for name, point in self._survey.activation_points.items()}
        for name in self._survey.model_inputs:
            activations[name].keep_range()
        return QuantizerSet(self._survey.table, weights, activations)
