"""The authors' indicators joined to a model's layers, by name."""

from collections.abc import Sequence
from typing import Any

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import typed
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import some_of
from llt_nncf.limpq.torchvision_layers import ModelLayer

# Left in the names by the authors' DistributedDataParallel.
_PREFIX = "module."


def convert_indicators(
    content: Any,
    layers: Sequence[ModelLayer],
    *,
    use_authors_macs: bool = False,
    fixed_bits: int = 8,
    where: str = "pickle",
) -> IndicatorTable:
    """
    Builds the search's input from what ``importance_extractor.py`` of the authors' repository pickles.

    The file's ``weight`` and ``act`` hold one value per layer and bit-width. Layers of the model that are not in it are
    fixed, as the first and the last one are in the authors' search. Each layer has an activation quantizer of its own.

    :param content: What was pickled.
    :param layers: The model's layers.
    :param use_authors_macs: Takes their count of MACs, with which their published policy is the optimum.
    :param fixed_bits: Bits of what is not searched.
    :param where: Named in errors and as the source.
    :raises ArtifactError: If the content is of another form, or names layers that the model does not have.
    :raises InvalidIndicatorError: If an indicator is missing or not usable.
    """
    weights = _rows(content, "weight", where)
    activations = _rows(content, "act", where)
    unknown = sorted({*weights, *activations} - {layer.name for layer in layers})
    lonely = sorted({*weights} ^ {*activations})
    if unknown or lonely:
        faults = [f"the model has no layers {some_of(unknown, 6)}"] if unknown else []
        faults += [f"only one of weight and act has {some_of(lonely, 6)}"] if lonely else []
        msg = f"{where}: {'; '.join(faults)}. Name the model that the indicators were trained for."
        raise ArtifactError(msg)
    rows = [
        Layer(
            name=layer.name,
            macs=layer.macs_authors if use_authors_macs else layer.macs,
            weight_count=layer.weight_count,
            activation_group=layer.name,
            weight_bits=_candidates(weights, layer.name, fixed_bits),
            activation_bits=_candidates(activations, layer.name, fixed_bits),
            depthwise=layer.depthwise,
        )
        for layer in layers
    ]
    counted = "as the authors count them" if use_authors_macs else "each side rounded down"
    source = f"{where}, by the LIMPQ authors' importance_extractor.py; MACs {counted}"
    return IndicatorTable(LayerTable(tuple(rows)), weights, activations, source)


def _rows(content: Any, kind: str, where: str) -> dict[str, dict[int, float]]:
    with parsing(where, "the LIMPQ authors' indicators (weight, act: layer: bits: value)"):
        rows: dict[str, dict[int, float]] = {}
        for given, values in typed(content, dict)[kind].items():
            name = typed(given, str).removeprefix(_PREFIX)
            if name in rows:
                msg = f"{kind} has {name!r} with and without {_PREFIX!r}"
                raise ValueError(msg)
            rows[name] = {int(str(bits)): typed(value, float) for bits, value in typed(values, dict).items()}
        return rows


def _candidates(rows: dict[str, dict[int, float]], name: str, fixed_bits: int) -> tuple[int, ...]:
    return tuple(sorted(rows[name], reverse=True)) if name in rows else (fixed_bits,)
