"""Trees of settings: mappings of mappings, with dotted keys for their leaves; and what a file's text says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from scribbleseg.errors import ConfigError

TOO_DEEP = "brackets within brackets, too many of them"


def from_json(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def from_yaml(text: str) -> Any:
    """Return what YAML says; it makes no objects.

    Raises:
        yaml.YAMLError: it is none, or nested too deeply.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise yaml.YAMLError(TOO_DEEP) from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys whose values differ between two trees."""
    found: list[str] = []
    for key in [*one, *(k for k in other if k not in one)]:
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return ``{"a": {"b": value}}`` for the key ``a.b``."""
    first, *rest = key.split(".")
    for part in reversed(rest):
        value = {part: value}
    return {first: value}


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn ``--a.b=value`` (or ``--a.b value``, dashes or underscores) into a nested mapping; values are YAML.

    Raises:
        ConfigError: an argument that is not of this form.
    """
    tree: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            equals, value = "=", rest.pop(0)
        if not word.startswith("--") or not equals:
            raise ConfigError(word, "--key.sub=value", f"'{word}'", "write the option with its value, as --seed=1")
        tree = merge(tree, nested(key.replace("-", "_"), value))
    return _parse_values(tree)


def _parse_values(tree: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for key, value in tree.items():
        try:
            parsed[key] = _parse_values(value) if isinstance(value, dict) else from_yaml(value)
        except yaml.YAMLError:
            raise ConfigError(f"--{key}", "a YAML value", repr(value), "quote the value") from None
    return parsed


def differences_told(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return, of each key of ``now`` whose value differs, both values in short; nothing where none does."""
    different = [key for key, value in now.items() if there.get(key) != value]
    return "; ".join(f"{key}: {_short(there.get(key))} there, {_short(now[key])} now" for key in different)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}…"
