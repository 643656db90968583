"""
Mixed precision of Sony's model-compression-toolkit (MCT 2.6, Apache-2.0), an integer program over distances of outputs.

MCT measures for every layer and bit-width how far the outputs of the layers move on a few images, and minimises the sum
under a limit on weight bytes or BitOPs, then raises bits greedily while the limits hold. Weights of convolutions and
linear layers are searched, and activations behind ReLU where the table searches any; other activations have 8 bits.
"""

import copy
import logging
import os
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import layer_bitops
from llt_nncf.cost import layer_weight_bits
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import InfeasibleBudgetError

from .choice import RivalChoice
from .choice import largest_share
from .choice import limits_by_kind
from .choice import policy_in_table
from .choice import required
from .choice import seeded
from .choice import share_note

_PACKAGE = "model-compression-toolkit"
_OTHER_ACTIVATION_BITS = 8
_CALIBRATION_BATCHES = 2
_METRIC_IMAGES = 128
_TRIES = 6
# How the errors begin that say that there are no such bits; its other ValueErrors and RuntimeErrors are faults.
_NO_ANSWER = ("The model cannot be quantized to meet", "No solution was found for the LP problem")


def choose(
    model: nn.Module, table: LayerTable, budget: Budget, loader: DataLoader, criterion: Any, *, seed: int
) -> RivalChoice:
    """
    Chooses bits by MCT.

    :param model: The float model; a copy is worked on.
    :param table: The layers.
    :param budget: Limits on BitOPs, the weights' size, or both.
    :param loader: Batches of (images, labels); the labels are not used.
    :param criterion: Not used: MCT compares outputs.
    :param seed: Of what MCT draws.
    :raises MissingDependencyError: If MCT is not installed.
    :raises InfeasibleBudgetError: If the budget has another limit, or MCT finds nothing within it.
    :raises ArtifactError: If a layer of the table is not in MCT's graph.
    """
    mct = required("model_compression_toolkit", _PACKAGE)
    wanted = limits_by_kind("MCT", table, budget)
    fixed_at = max(_shared_candidates(table, "weight_bits"))
    with seeded(seed), _quiet(), _counted_images() as images, _remembered_metrics():
        batches = _image_batches(loader, _CALIBRATION_BATCHES)

        def ask(part: float) -> BitPolicy:
            limits = {**wanted, "bitops": wanted["bitops"] * part} if "bitops" in wanted else wanted
            try:
                quantized, _ = mct.ptq.pytorch_post_training_quantization(
                    copy.deepcopy(model).eval(),
                    lambda: ([batch] for batch in batches),
                    mct.core.ResourceUtilization(**utilization(limits, table, fixed_at)),
                    _core_config(mct, table, fixed_at),
                    _capabilities(table),
                )
            except (ValueError, RuntimeError) as error:
                if not str(error).startswith(_NO_ANSWER):
                    raise
                msg = f"MCT finds no bits within the budget ({', '.join(budget.names)}): {error}"
                raise InfeasibleBudgetError(msg) from error
            return policy_of(chosen_bits(quantized.graph, table), table)

        policy, part = nearest_below(ask, lambda policy: largest_share(policy, table, budget))
    notes = [*_rules(table, fixed_at), share_note(policy, table, budget)]
    if part < 1:
        notes.append(f"MCT does not keep its own limit on BitOPs; it was asked for {100 * part:.1f} % of it.")
    return RivalChoice(policy, sum(images) / (loader.batch_size or 1) / 3, tuple(notes))


def nearest_below(ask: Callable[[float], BitPolicy], share: Callable[[BitPolicy], float]) -> tuple[BitPolicy, float]:
    """
    Asks for smaller parts of a limit that is not kept, until it is, and then for what uses most of it.

    MCT adds up what each choice costs beside the fewest bits of all others. BitOPs are products, so where an activation
    feeds more than one operator, and is chosen apart from the weights, this is too little.

    :param ask: Part of the limit, from 0 to 1, to the policy.
    :param share: What the policy uses of the budget; up to 1 it is within.
    :return: The policy, and the part that was asked for.
    :raises InfeasibleBudgetError: If none is within the budget.
    """
    found: list[tuple[BitPolicy, float]] = []
    failed: InfeasibleBudgetError | None = None
    low, high, part = 0.0, 1.0, 1.0
    for _ in range(_TRIES):
        try:
            policy = ask(part)
        except InfeasibleBudgetError as error:
            failed, low = error, part
        else:
            used = share(policy)
            if used <= 1:
                found.append((policy, part))
                low = part
            else:
                high = part
        if low >= high:
            break
        part = (low + high) / 2 if low else high / used
    if found:
        return max(found, key=lambda pair: share(pair[0]))
    raise failed or InfeasibleBudgetError(f"MCT's choice is over the budget by our count in {_TRIES} attempts.")


def policy_of(bits: dict[str, tuple[int, int]], table: LayerTable) -> BitPolicy:
    """MCT's bits, of every layer, in our table."""
    return policy_in_table(bits, table, {"rival": "mct"})


def chosen_bits(graph: Any, table: LayerTable) -> dict[str, tuple[int, int]]:
    """
    Reads the bits of every layer of the table and of what feeds it from MCT's graph.

    MCT names a node as torch.fx does, and a layer that has taken in its batch norm by both, joined.

    :param graph: MCT's graph after the search.
    :param table: The layers.
    :raises ArtifactError: If a layer is not there exactly once.
    """
    result = {}
    for layer in table.layers:
        nodes = [node for node in graph.nodes if node.name in node_names(layer.name)]
        if len(nodes) != 1:
            names = " or ".join(node_names(layer.name))
            msg = (
                f"{layer.name}: {len(nodes)} nodes of MCT's graph are named {names}; one is needed. "
                "MCT traces with torch.fx: the layer must be a module of its own that is called once."
            )
            raise ArtifactError(msg)
        weights = nodes[0].final_weights_quantization_cfg.get_attr_config("weight").weights_n_bits
        feeding = graph.retrieve_preserved_quantization_node(graph.get_prev_nodes(nodes[0])[0])
        result[layer.name] = (weights, feeding.final_activation_quantization_cfg.activation_n_bits)
    return result


def node_names(layer_name: str) -> tuple[str, str]:
    """
    Names that MCT may give to a layer.

    >>> node_names("layer1.0.conv1")
    ('layer1_0_conv1', 'layer1_0_conv1_bn')
    """
    name = layer_name.replace(".", "_")
    return name, f"{name}_bn"


def _rules(table: LayerTable, fixed_at: int) -> tuple[str, ...]:
    """What MCT's rules made of the table."""
    fixed = [layer.name for layer in table.layers if len(layer.weight_bits) == 1]
    notes = [f"Candidates {sorted(_shared_candidates(table, 'weight_bits'))} for weights."]
    if fixed:
        notes.append(
            f"{', '.join(fixed)}: seen by MCT at {fixed_at} bits, the limits lowered by what their own bits cost more."
        )
    return tuple(notes)


def _shared_candidates(table: LayerTable, kind: str) -> set[int]:
    """Bits that every searched layer may have: MCT's rules are for all layers of a type."""
    choices = [set(getattr(layer, kind)) for layer in table.layers if len(getattr(layer, kind)) > 1]
    return set.intersection(*choices) if choices else {_OTHER_ACTIVATION_BITS}


def utilization(wanted: dict[str, int], table: LayerTable, fixed_at: int) -> dict[str, float]:
    """The limits as MCT takes them, with layers of fixed weights at ``fixed_at`` bits: BitOPs, and bytes."""
    result = {}
    costs = {"bitops": ("bops", layer_bitops, 1), "weight_bits": ("weights_memory", layer_weight_bits, 8)}
    for kind, most in wanted.items():
        name, cost, divisor = costs[kind]
        more = sum(_difference(cost, layer, fixed_at) for layer in table.layers if len(layer.weight_bits) == 1)
        result[name] = (most - more) / divisor
    return result


def _difference(cost: Any, layer: Layer, fixed_at: int) -> int:
    own, activations = layer.weight_bits[0], layer.activation_bits[0]
    return cost(layer, own, activations) - cost(layer, fixed_at, activations)


def _core_config(mct: Any, table: LayerTable, fixed_at: int) -> Any:
    """MCT's settings: its defaults, more images, and the layers of fixed weights taken out of the search."""
    filters = required("model_compression_toolkit.core.common.network_editors", _PACKAGE)
    fixed = [layer for layer in table.layers if len(layer.weight_bits) == 1]
    bit_widths = mct.core.BitWidthConfig()
    for layer in fixed:
        plain, folded = node_names(layer.name)
        either = filters.NodeNameFilter(plain) | filters.NodeNameFilter(folded)
        bit_widths.set_manual_weights_bit_width(either, fixed_at, "weight")
    return mct.core.CoreConfig(
        mixed_precision_config=mct.core.MixedPrecisionQuantizationConfig(num_of_images=_METRIC_IMAGES),
        bit_width_config=bit_widths,
    )


def _capabilities(table: LayerTable) -> Any:
    """A target platform with the table's candidates; grids are symmetric, a scale per output channel of weights."""
    schema = required("model_compression_toolkit.target_platform_capabilities.schema.mct_current_schema", _PACKAGE)
    constants = required("model_compression_toolkit.target_platform_capabilities.constants", _PACKAGE)
    methods = required("mct_quantizers", "mct-quantizers").QuantizationMethod
    plain = schema.AttributeQuantizationConfig(weights_quantization_method=methods.SYMMETRIC)
    kernel = schema.AttributeQuantizationConfig(
        weights_quantization_method=methods.SYMMETRIC,
        weights_n_bits=_OTHER_ACTIVATION_BITS,
        weights_per_channel_threshold=True,
        enable_weights_quantization=True,
    )
    other = schema.OpQuantizationConfig(
        default_weight_attr_config=plain,
        attr_weights_configs_mapping={},
        activation_quantization_method=methods.SYMMETRIC,
        activation_n_bits=_OTHER_ACTIVATION_BITS,
        supported_input_activation_n_bits=tuple(range(2, 9)),
        enable_activation_quantization=True,
        quantization_preserving=False,
        fixed_scale=None,
        fixed_zero_point=None,
        simd_size=1,
        signedness=schema.Signedness.AUTO,
    )
    layer = other.clone_and_edit(
        attr_weights_configs_mapping={constants.KERNEL_ATTR: kernel, constants.BIAS_ATTR: plain}
    )
    weights = [
        layer.clone_and_edit(attr_to_edit={constants.KERNEL_ATTR: {constants.WEIGHTS_N_BITS: num_bits}})
        for num_bits in sorted(_shared_candidates(table, "weight_bits"), reverse=True)
    ]
    activations = [
        other.clone_and_edit(activation_n_bits=num_bits)
        for num_bits in sorted(_shared_candidates(table, "activation_bits"), reverse=True)
    ]
    return _platform(schema, other, weights, activations)


def _platform(schema: Any, other: Any, weights: list[Any], activations: list[Any]) -> Any:
    """The operators with what each may have; one quantizer behind a layer or sum and its ReLU."""
    names = schema.OperatorSetNames

    def operators(name: Any, configs: list[Any]) -> Any:
        options = schema.QuantizationConfigOptions(quantization_configurations=tuple(configs), base_config=configs[0])
        return schema.OperatorsSet(name=name, qc_options=options)

    layers = [operators(name, weights) for name in (names.CONV, names.DEPTHWISE_CONV, names.FULLY_CONNECTED)]
    relus = [operators(name, activations) for name in (names.RELU, names.RELU6)]
    keeping = [
        operators(name, [other.clone_and_edit(enable_activation_quantization=False, quantization_preserving=True)])
        for name in (names.FLATTEN, names.RESHAPE, names.DROPOUT, names.MAXPOOL)
    ]
    add = operators(names.ADD, [other])
    relu = schema.OperatorSetGroup(operators_set=relus)
    fusing = [schema.Fusing(operator_groups=(before, relu)) for before in (*layers, add)]
    return schema.TargetPlatformCapabilities(
        default_qco=schema.QuantizationConfigOptions(quantization_configurations=(other,)),
        operator_set=(*layers, *relus, *keeping, add),
        fusing_patterns=tuple(fusing),
        add_metadata=False,
        name="llt_nncf",
    )


def _image_batches(loader: DataLoader, most: int) -> list[Tensor]:
    """The images of the first batches."""
    return [images for _, (images, _) in zip(range(most), loader, strict=False)]


@contextmanager
def _counted_images() -> Iterator[list[int]]:
    """Counts the images that pass forward through MCT's models while it is inside."""
    images: list[int] = []

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if any(kind.__name__ == "PytorchModel" for kind in type(module).__mro__):
            images.append(len(inputs[0]))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield images
    finally:
        handle.remove()


@contextmanager
def _remembered_metrics() -> Iterator[None]:
    """Has MCT measure each choice of bits once, however often it searches while it is inside."""
    name = "model_compression_toolkit.core.common.mixed_precision.sensitivity_eval.sensitivity_evaluation"
    evaluation = required(name, _PACKAGE).SensitivityEvaluation
    measure = evaluation.compute_metric
    known: dict[Any, float] = {}

    def remembered(self: Any, mp_a_cfg: dict[str, Any], mp_w_cfg: dict[str, Any]) -> float:
        key = (frozenset(mp_a_cfg.items()), frozenset(mp_w_cfg.items()))
        if key not in known:
            known[key] = measure(self, mp_a_cfg, mp_w_cfg)
        return known[key]

    evaluation.compute_metric = remembered
    try:
        yield
    finally:
        evaluation.compute_metric = measure


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MCT's log and progress bars, and without the output of its solver, which is a process of its own."""
    before, stdout = logging.root.manager.disable, os.dup(1)
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        logging.disable(before)
