"""The builder: NNCF's quantization with switchable quantizers in the places of its own."""

from collections.abc import Callable
from typing import Any

from nncf import NNCFConfig
from nncf.common.quantization.quantizer_setup import SingleConfigQuantizerSetup
from nncf.config.extractors import extract_algo_specific_config
from nncf.config.extractors import extract_range_init_params
from nncf.config.schemata.defaults import NUM_BN_ADAPTATION_SAMPLES
from nncf.torch.algo_selector import PT_COMPRESSION_ALGORITHMS
from nncf.torch.graph.transformations.layout import PTTransformationLayout
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.quantization.algo import QuantizationBuilder
from nncf.torch.quantization.init_range import PTRangeInitParams
from nncf.torch.quantization.layers import PTQuantizerSetup

from llt_nncf.adapter.candidates import Candidates
from llt_nncf.adapter.candidates import assign_candidates
from llt_nncf.adapter.compression_state import BuilderState
from llt_nncf.adapter.controller import LltQuantizationController
from llt_nncf.adapter.float_weights import log_float_weights
from llt_nncf.adapter.init_batches import InitBatches
from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.layer_survey import survey_layers
from llt_nncf.adapter.layer_survey import weighted_nodes
from llt_nncf.adapter.nncf_quantizer import SwitchableQuantizerSpec
from llt_nncf.adapter.nncf_schema import check_config
from llt_nncf.adapter.scopes import override_faults
from llt_nncf.adapter.scopes import placement_faults
from llt_nncf.adapter.scopes import scope_list
from llt_nncf.adapter.setup_rules import apply_rules
from llt_nncf.adapter.setup_rules import share_inputs_of_calls
from llt_nncf.adapter.setup_rules import unify_scales
from llt_nncf.adapter.training_branches import check_training_branches
from llt_nncf.artifacts import reading
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import LltConfig
from llt_nncf.config import raise_faults
from llt_nncf.errors import ConfigError
from llt_nncf.indicators import QuantizerSet

# Keys of "weights" and "activations" that NNCF's code must not see.
_OWN_KEYS = ("bits", "signed", "mode", "unified_scale_ops")


@PT_COMPRESSION_ALGORITHMS.register(ALGORITHM_NAME)
class LltQuantizationBuilder(QuantizationBuilder):
    """
    Places quantizers with NNCF's solver, scopes, hardware config and range initialisation.

    :param config: The NNCF config; its section is checked here too, for configs that were not loaded from JSON.
    :param should_init: ``False`` on resume: no initialisation, no importance training, no search.
    :raises ConfigError: If the section has faults.
    :raises MissingInitArgsError: If no data loader was registered, or one without a batch size.
    """

    def __init__(self, config: NNCFConfig, should_init: bool = True):
        check_config(config)
        self._section = extract_algo_specific_config(config, ALGORITHM_NAME)
        # Before NNCF reads the section: it words what is wrong by its own names.
        self._llt_config = LltConfig.from_section(
            self._section, log_dir=config.get("log_dir"), target_device=config.get("target_device", "ANY")
        )
        super().__init__(config, should_init)
        # NNCF's quantization does not look at the scopes of the whole config, and changes lists in place.
        self.ignored_scopes = scope_list(config.get("ignored_scopes")) + scope_list(self._section.get("ignored_scopes"))
        self._algo_config["ignored_scopes"] = list(self.ignored_scopes)
        if targets := self._section.get("target_scopes", config.get("target_scopes")):
            self._algo_config["target_scopes"] = self.target_scopes = scope_list(targets)
        self._survey: LayerSurvey  # made with the transformation layout
        self._weight_shapes: dict[str, tuple[int, ...]]  # likewise
        self._saved: BuilderState | None = None  # of a resumed run
        # Losses of the algorithms beside ours; set before the controller is built.
        self.other_losses: tuple[Callable[[], Any], ...] = ()

    def _get_algo_specific_config_section(self) -> dict[str, Any]:
        # What NNCF's own code reads. Its hardware configurations refuse bits below 8 and forced signs, and it looks at
        # scope_overrides of weights on the device TRIAL only.
        section = dict(self._section)
        for key in ("scope_overrides", "ignored_scopes", "target_scopes"):
            section.pop(key, None)
        for group in ("weights", "activations"):
            kept = {key: value for key, value in section.get(group, {}).items() if key not in _OWN_KEYS}
            kept |= {key: scope_list(kept[key]) for key in ("ignored_scopes", "target_scopes") if key in kept}
            # One step size per tensor unless asked otherwise: it is the importance indicator, and folding batch norm
            # makes it one per channel in the exported file anyway.
            default = {"per_channel": False} if group == "weights" else {}
            section[group] = {**default, **kept}
        # Ours takes its place: candidates of 7 bits are what NNCF makes of 8.
        return {**section, "overflow_fix": "disable"}

    def _parse_init_params(self) -> None:
        # The base class looks for its own algorithm's name in the config, and for HAWQ's settings.
        batches = InitBatches.for_statistics(self.config)
        try:
            params = extract_range_init_params(self.config, self.name)
        except ValueError as error:  # what NNCF's schema does not see
            msg = f"compression.initializer.range: {error}"
            raise ConfigError(msg) from error
        adaptation = self._algo_config.get("initializer", {}).get("batchnorm_adaptation", {})
        samples = adaptation.get("num_bn_adaptation_samples", NUM_BN_ADAPTATION_SAMPLES)
        if samples < 0:  # NNCF would say so after the importance training
            msg = (
                f"compression.initializer.batchnorm_adaptation.num_bn_adaptation_samples={samples}: must be at least 0."
            )
            raise ConfigError(msg)
        if params is not None or samples > 0:
            batches.check_batch_size()
        self._range_init_params = None if params is None else PTRangeInitParams(**params)

    def _get_quantizer_setup(self, target_model: NNCFNetwork) -> PTQuantizerSetup:
        setup = super()._get_quantizer_setup(target_model)
        assign_candidates(setup, target_model.nncf.get_original_graph(), self._llt_config, self.hw_config)
        return setup

    def _get_single_config_quantizer_setup(self, target_model: NNCFNetwork) -> SingleConfigQuantizerSetup:
        try:
            setup = super()._get_single_config_quantizer_setup(target_model)
        except KeyError as error:
            # NNCF wants the quantizer of an embedding's table, which is that of the operations behind.
            msg = (
                f"compression.weights: its scopes leave out {error}, whose table stays in float in any case; take it "
                "out of weights.ignored_scopes, add it to weights.target_scopes, or give compression.ignored_scopes."
            )
            raise ConfigError(msg) from error
        weights, activations = self._llt_config.weights, self._llt_config.activations
        unified = self._section.get("activations", {}).get("unified_scale_ops", [])
        if self.validate_scopes:
            raise_faults(override_faults(setup, weights, activations, unified))
        unify_scales(setup, unified)
        share_inputs_of_calls(setup, target_model.nncf.get_original_graph())
        apply_rules(setup, weights, activations)
        self._check_ranges(setup)
        return setup

    def _check_ranges(self, setup: SingleConfigQuantizerSetup) -> None:
        if self._range_init_params is not None:
            for point in setup.quantization_points.values():
                try:
                    self._range_init_params.get_init_config_for_quantization_point(point)
                except ValueError as error:
                    msg = f"compression.initializer.range: {error} Each quantizer needs exactly one entry."
                    raise ConfigError(msg) from error

    def get_transformation_layout(self, model: NNCFNetwork) -> PTTransformationLayout:
        if self.validate_scopes:
            names = [node.node_name for node in model.nncf.get_original_graph().get_all_nodes()]
            raise_faults(placement_faults(self.config, self._section, names))
        return super().get_transformation_layout(model)

    def _get_transformation_layout(self, target_model: NNCFNetwork) -> PTTransformationLayout:
        layers = weighted_nodes(target_model)
        self._weight_shapes = dict(layers.values())
        if self._saved is None:
            layout = super()._get_transformation_layout(target_model)
        else:
            nodes = target_model.nncf.get_original_graph().get_all_nodes()
            self._saved.check_model(layers, {node.node_name for node in nodes})
            with reading("compression_state", "a state of this model"):
                layout = super()._get_transformation_layout(target_model)
            self._check_resumed(target_model)
        self._survey = survey_layers(self._pt_quantizer_setup, target_model)
        return layout

    def _load_state_without_name(self, state_without_name: dict[str, Any]) -> None:
        self._saved = saved = BuilderState.from_dict(state_without_name)
        with reading("compression_state", "a state of this algorithm's quantizers"):
            super()._load_state_without_name(state_without_name)
        for point_id, spec in saved.specs.items():
            self._pt_quantizer_setup.quantization_points[point_id].qspec = SwitchableQuantizerSpec(**spec)

    def _check_resumed(self, target_model: NNCFNetwork) -> None:
        graph = target_model.nncf.get_original_graph()
        asked = Candidates(self._pt_quantizer_setup, graph, self._llt_config, self.hw_config).by_point()
        for point_id, point in self._pt_quantizer_setup.quantization_points.items():
            if point.qspec.candidate_bits != asked[point_id]:
                msg = (
                    f"compression: by this config the quantizer at {point.target_point.target_node_name!r} has the "
                    f"candidate bits {list(asked[point_id])}, and the compression state was saved with "
                    f"{list(point.qspec.candidate_bits)}; resume with the same candidate_bits, fixed_bits, bits of "
                    "groups and scopes, overflow_fix, target and target_device."
                )
                raise ConfigError(msg)

    def _get_state_without_name(self) -> dict[str, Any]:
        return BuilderState.to_dict(
            super()._get_state_without_name(),
            table=self._survey.table,
            weight_shapes=self._weight_shapes,
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
            other_losses=self.other_losses,
        )
        if self.should_init:
            log_float_weights(model, self._survey)
            check_training_branches(model, controller.quantizers, InitBatches.for_statistics(self.config))
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
