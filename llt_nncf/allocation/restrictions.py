"""What the search may choose from, beyond the candidates of the layers."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.errors import SearchOptionError


@dataclass(frozen=True)
class Restrictions:
    """
    Narrows the choice; indicators and budgets mean what they mean without it.

    Fixed layers stay as they are. Patterns are those of file names (``layer1.*``, ``*.conv2``, ``fc``); where several
    match a layer, all of them hold. What holds for the input of a layer holds for all that share its quantizer.

    :param weight_bits: Pattern of layer names to the weight bits that are allowed.
    :param activation_bits: Pattern of layer names to the activation bits that are allowed.
    :param weight_only: Activations stay at their highest candidate.
    :param tied: Weights and input of a layer get the same bits, where neither of them is fixed.
    """

    weight_bits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    activation_bits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    weight_only: bool = False
    tied: bool = False

    def allowed(self, table: LayerTable) -> dict[str, NDArray[np.bool_]]:
        """
        Returns which pairs are left to every layer, by its name, shape (activation bits, weight bits).

        :param table: The layers.
        :raises SearchOptionError: If a pattern matches no layer that is searched, or a layer is left with nothing.
        """
        faults = []
        for kind in ("weight_bits", "activation_bits"):
            for pattern in getattr(self, kind):
                if not any(fnmatchcase(x.name, pattern) for x in table.layers if len(getattr(x, kind)) > 1):
                    faults.append(f"{kind}[{pattern!r}] matches no layer whose {kind} are searched")
        masks = {layer.name: self._mask(layer) for layer in table.layers}
        for name, members in table.groups.items():
            # Bits at which every layer of the group has a pair left.
            shared = np.logical_and.reduce([masks[layer.name].any(axis=1) for layer in members])
            for layer in members:
                masks[layer.name] &= shared[:, None]
            if not shared.any():
                layers = ", ".join(f"{x.name} (W{list(x.weight_bits)}, A{list(x.activation_bits)})" for x in members)
                faults.append(f"nothing is left for {layers}, fed by the activation quantizer {name!r}")
        if faults:
            msg = f"Restrictions: {'; '.join(faults)}. Allow more bits there, or mend the pattern."
            raise SearchOptionError(msg)
        return masks

    def _mask(self, layer: Layer) -> NDArray[np.bool_]:
        weights = self._of_kind(layer, "weight_bits")
        activations = self._of_kind(layer, "activation_bits")
        mask = np.logical_and.outer(activations, weights)
        if self.weight_only:
            mask[1:] = False
        if self.tied and len(layer.weight_bits) > 1 and len(layer.activation_bits) > 1:
            mask &= np.equal.outer(layer.activation_bits, layer.weight_bits)
        return mask

    def _of_kind(self, layer: Layer, kind: str) -> NDArray[np.bool_]:
        candidates = getattr(layer, kind)
        result = np.ones(len(candidates), bool)
        for pattern, bits in getattr(self, kind).items():
            if len(candidates) > 1 and fnmatchcase(layer.name, pattern):
                result &= np.isin(candidates, bits)
        return result
