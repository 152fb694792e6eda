"""Rules that give single layers other choices than the rest of the network has."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from snnc.errors import UsageError, Where
from snnc.settings.table import SETTINGS, Setting, check

__all__ = ["ROLES", "LayerRule", "chosen", "did_you_mean", "parse_rules"]

#: What a code or a layer with weights is for in the network; one may have several roles.
ROLES: dict[str, str] = {
    "first": "the layer that reads the network input, and the code of its neurons",
    "last": "layers behind which no other layer stands on the way to an output, and the codes they read",
    "attention": "numerators of a softmax: the spikes that weigh the values",
    "operand": "queries, keys and values: operands of a product of two activations",
    "norm": "codes behind a LayerNorm or RMSNorm",
    "hidden": "all other codes and layers",
}
_SELECTORS = ("match", "role")
#: Settings that a rule may hold, by key.
PER_LAYER: dict[str, Setting] = {setting.key: setting for setting in SETTINGS if setting.per_layer}


@dataclass(frozen=True)
class LayerRule:
    """Choices for the layers that match.

    Attributes:
        match: Name of a node or tensor, or a glob pattern (``*``, ``?``, ``[...]``) of such names.
        role: One of `ROLES` that the layer must have, or None for any.
        values: Names of per-layer settings with their values.
    """

    match: str = "*"
    role: str | None = None
    values: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def make(cls, content: dict[str, Any], where: Where | None = None, label: str = "") -> LayerRule:
        """Make a rule from keys and values as a recipe has them.

        Args:
            content: ``match``, ``role`` and per-layer settings by key.
            where: Place to name in errors.
            label: Prefix of keys in errors.

        Raises:
            UsageError: SNN270 unknown key; SNN271, SNN272 wrong value; SNN273 nothing is chosen.
        """
        known = [*_SELECTORS, *PER_LAYER]
        for key in content:
            if key not in known:
                raise UsageError(
                    "SNN270", f"unknown key {label + key!r}", where=where, hint=did_you_mean(key, known)
                )
        match, role = content.get("match", "*"), content.get("role")
        if not isinstance(match, str) or not match:
            raise UsageError("SNN271", f"{label}match is {match!r}, expected a name or pattern", where=where)
        if role is not None and role not in ROLES:
            near = did_you_mean(role, ROLES) if isinstance(role, str) else None
            hint = near or f"roles: {', '.join(ROLES)}"
            raise UsageError("SNN272", f"{label}role is {role!r}, which is no role", where=where, hint=hint)
        if "match" not in content and role is None:
            raise UsageError(
                "SNN273", f"{label}match or {label}role must say which layers are meant", where=where
            )
        values = tuple(
            (setting.name, check(setting, content[key], where, label + key))
            for key, setting in PER_LAYER.items()
            if key in content
        )
        if not values:
            raise UsageError(
                "SNN273",
                f"the rule for {match!r} chooses nothing",
                where=where,
                hint=f"set one of {', '.join(PER_LAYER)}",
            )
        return cls(match, role, values)

    @classmethod
    def parse(cls, text: str, where: Where | None = None) -> LayerRule:
        """Read a rule from the text of the flag, ``PATTERN:KEY=VALUE,...``.

        Raises:
            UsageError: SNN274, the text has another form; others see `make`.
        """
        pattern, colon, rest = text.rpartition(":")
        content: dict[str, Any] = {"match": pattern}
        for item in rest.split(","):
            key, equals, raw = item.partition("=")
            key = key.strip()
            if not colon or not pattern or not equals or key == "match" or key in content:
                raise UsageError(
                    "SNN274",
                    f"{text!r} is no rule for layers",
                    where=where,
                    hint="write PATTERN:KEY=VALUE,KEY=VALUE, such as '/blocks.0/*:timesteps=6,groups=3'",
                )
            setting = PER_LAYER.get(key)
            content[key] = _literal(setting, raw.strip())
        return cls.make(content, where, f"{pattern}:")

    def __str__(self) -> str:
        parts = [f"role={self.role}"] if self.role is not None else []
        keys = {setting.name: key for key, setting in PER_LAYER.items()}
        parts += [f"{keys[name]}={_written(value)}" for name, value in self.values]
        return f"{self.match}:{','.join(parts)}"

    def to_recipe(self) -> dict[str, Any]:
        """Return the table that a recipe has for the rule."""
        keys = {setting.name: key for key, setting in PER_LAYER.items()}
        content: dict[str, Any] = {}
        if self.match != "*" or self.role is None:
            content["match"] = self.match
        if self.role is not None:
            content["role"] = self.role
        return content | {keys[name]: value for name, value in self.values}

    def applies(self, names: Collection[str], roles: Collection[str]) -> bool:
        """Whether a layer with these names and roles is meant; a name matches itself, whatever it holds."""
        if self.role is not None and self.role not in roles:
            return False
        return self.match in names or any(fnmatchcase(name, self.match) for name in names)


@lru_cache(maxsize=64)
def parse_rules(texts: tuple[str, ...]) -> tuple[LayerRule, ...]:
    """Read rules from their texts; see `LayerRule.parse`."""
    return tuple(LayerRule.parse(text) for text in texts)


def chosen(rules: Iterable[LayerRule], names: Collection[str], roles: Collection[str]) -> dict[str, Any]:
    """Return what rules choose for a layer, by name of the setting; of several rules the last one wins.

    Args:
        rules: The rules, in order.
        names: Names that the layer is known by.
        roles: Its roles.
    """
    found: dict[str, Any] = {}
    for rule in rules:
        if rule.applies(names, roles):
            found.update(rule.values)
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a hint that names what is spelled like a word, or None."""
    near = get_close_matches(word, list(known), n=2)
    return f"did you mean {' or '.join(near)}?" if near else None


def _literal(setting: Setting | None, text: str) -> Any:
    """Read a value of the kind a setting has; what does not fit stays a text and is refused later."""
    if setting is None:
        return text
    try:
        if setting.kind == "int":
            return int(text)
        if setting.kind == "float":
            return float(text)
    except ValueError:
        return text
    return {"true": True, "false": False}.get(text, text) if setting.kind == "bool" else text


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
