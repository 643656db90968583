"""Our algorithm beside others of NNCF in one config: its builder and controller for lists of algorithms."""

from typing import Any

from nncf import NNCFConfig
from nncf.config.extractors import extract_algorithm_names
from nncf.parameters import StripFormat
from nncf.torch import model_creation
from nncf.torch.algo_selector import PT_COMPRESSION_ALGORITHMS
from nncf.torch.composite_compression import PTCompositeCompressionAlgorithmBuilder
from nncf.torch.composite_compression import PTCompositeCompressionAlgorithmController
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.pruning.filter_pruning.algo import FilterPruningController

from llt_nncf.adapter.nncf_schema import check_config
from llt_nncf.adapter.scopes import scope_list
from llt_nncf.config import ALGORITHM_NAME


class LltCompositeController(PTCompositeCompressionAlgorithmController):
    """
    Schedules and sums up all algorithms as NNCF does, and is our controller in everything else.

    ``policies``, ``search``, ``policy``, ``table`` and whatever else NNCF's composite controller does not have are
    those of our controller, which freezes and exports as well, and whose compression rate is the model's: scripts and
    the pipeline need not know which of the two they hold.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "_child_ctrls":  # a copy that has no attributes yet
            raise AttributeError(name)
        return getattr(self._child_ctrls[-1], name)

    # NNCF's sums up nothing and cannot be set.
    @property
    def compression_rate(self) -> float | None:
        """Share of BitOPs that the policy saves against 8 bits everywhere; setting it searches again."""
        return self._child_ctrls[-1].compression_rate

    @compression_rate.setter
    def compression_rate(self, rate: float) -> None:
        self._child_ctrls[-1].compression_rate = rate

    @property
    def maximal_compression_rate(self) -> float:
        """The highest rate that can be set."""
        return self._child_ctrls[-1].maximal_compression_rate

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Loads the state of all; of filter pruning also what its own forgets: its level, and that masks are final."""
        super().load_state(state)
        for controller in self._child_ctrls:
            if isinstance(controller, FilterPruningController) and controller.scheduler.current_epoch >= 0:
                # The masks that this sets are overwritten by the model's state dict.
                controller.set_pruning_level(controller.scheduler.current_pruning_level)
                controller.freeze(controller.scheduler.current_epoch >= controller.scheduler.freeze_epoch)

    def strip(self, do_copy: bool = True, strip_format: StripFormat = StripFormat.NATIVE) -> NNCFNetwork:
        """Freezes the model; masks of sparsity and pruning become zeros in the integer weights."""
        return self.strip_model(self.model, do_copy, strip_format)

    def strip_model(
        self, model: NNCFNetwork, do_copy: bool = False, strip_format: StripFormat = StripFormat.NATIVE
    ) -> NNCFNetwork:
        """Freezes ``model``, as ``strip`` does the controller's own."""
        return self._child_ctrls[-1].strip_model(model, do_copy, strip_format)

    def export_model(self, *arguments: Any, **keywords: Any) -> None:
        """Writes the frozen model as ONNX, by our controller."""
        self._child_ctrls[-1].export_model(*arguments, **keywords)


class LltCompositeBuilder(PTCompositeCompressionAlgorithmBuilder):
    """
    Builds our algorithm last, so that its importance training sees the model sparse or pruned at its initial level.

    :param config: The NNCF config with several algorithms, ours among them.
    :param should_init: ``False`` on resume.
    :raises ConfigError: If an algorithm cannot be combined with ours.
    """

    def __init__(self, config: NNCFConfig, should_init: bool = True):
        check_config(config)
        # Not NNCF's own constructor: there all builders hold the config's one list of ignored_scopes, to which each
        # adds its own.
        super(PTCompositeCompressionAlgorithmBuilder, self).__init__(config, should_init)
        shared = config.get("ignored_scopes")
        for name in sorted(extract_algorithm_names(config), key=lambda name: name == ALGORITHM_NAME):
            if shared is not None:
                config["ignored_scopes"] = scope_list(shared)
            self._child_builders.append(PT_COMPRESSION_ALGORITHMS.get(name)(config, should_init=should_init))
        if shared is not None:
            config["ignored_scopes"] = shared

    def _build_controller(self, model: NNCFNetwork) -> LltCompositeController:
        composite = LltCompositeController(model)
        *others, own = self.child_builders
        for builder in others:
            composite.add(builder.build_controller(model))
        own.other_losses = tuple(controller.loss for controller in composite.child_ctrls)
        composite.add(own.build_controller(model))
        return composite


def composite_builder(config: NNCFConfig, should_init: bool = True) -> PTCompositeCompressionAlgorithmBuilder:
    """Returns our builder for lists in which our algorithm is, and NNCF's for others."""
    is_ours = ALGORITHM_NAME in extract_algorithm_names(config)
    return (LltCompositeBuilder if is_ours else PTCompositeCompressionAlgorithmBuilder)(config, should_init=should_init)


def register_composite() -> None:
    """Puts ``composite_builder`` in the place from which NNCF takes its builder for lists of algorithms."""
    model_creation.PTCompositeCompressionAlgorithmBuilder = composite_builder
