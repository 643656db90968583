"""What the section says about bits, sign and granularity of the quantizers, by group and by scope."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any


@dataclass(frozen=True)
class QuantizerRule:
    """
    What is asked of some quantizers; ``None`` where nothing is.

    :param bits: Their candidate bit-widths, descending; one for a fixed bit-width.
    :param signed: Whether their codes are centred on zero, whatever the data shows.
    :param per_channel: Whether they have a step size per channel.
    """

    bits: tuple[int, ...] | None = None
    signed: bool | None = None
    per_channel: bool | None = None

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "QuantizerRule":
        """Reads a group's section, or what stands under a scope."""
        bits = section.get("bits")
        if bits is not None:
            bits = tuple(sorted(bits, reverse=True)) if isinstance(bits, list) else (bits,)
        return cls(bits, section.get("signed"), section.get("per_channel"))


@dataclass(frozen=True)
class GroupRules:
    """
    The rules of ``weights`` or of ``activations``.

    :param common: For all of the group.
    :param by_scope: For those that a scope names; of several scopes that match, the last one that says something holds.
    """

    common: QuantizerRule = QuantizerRule()
    by_scope: Mapping[str, QuantizerRule] = field(default_factory=dict)

    @classmethod
    def from_section(cls, section: Mapping[str, Any], group: str) -> "GroupRules":
        """
        Reads the rules of one group.

        :param section: The checked section.
        :param group: ``weights`` or ``activations``.
        """
        scopes = section.get("scope_overrides", {}).get(group, {})
        by_scope = {scope: QuantizerRule.from_section(rule) for scope, rule in scopes.items()}
        return cls(QuantizerRule.from_section(section.get(group, {})), by_scope)

    def bits_by_path(self, group: str) -> dict[str, tuple[int, ...]]:
        """Returns the bits that are given, by key path."""
        given = {f"compression.{group}": self.common}
        given |= {f"compression.scope_overrides.{group}.{scope}": rule for scope, rule in self.by_scope.items()}
        return {f"{path}.bits": rule.bits for path, rule in given.items() if rule.bits is not None}
