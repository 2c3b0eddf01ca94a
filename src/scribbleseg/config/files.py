"""Configurations in files: one YAML file, one tree of records, ``--a.b=value`` on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scribbleseg.config.run import Config, RecordedConfig, RunConfig
from scribbleseg.errors import ConfigError
from scribbleseg.trees import from_yaml, merge

#: The file of a run's folder that holds its configuration.
RECORD = "config.yaml"


def load_config(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a configuration for a new run: defaults, then the file, then the overrides, with the method's losses written out.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    return parse_config(merge(_read(file) if file is not None else {}, overrides or {}), file or "configuration")


def load_record(run: Path, overrides: Mapping[str, Any] | None = None) -> RecordedConfig:
    """Read the configuration in a run's folder, as :func:`load_config` does, but as it was recorded.

    Raises:
        ConfigError: as there; or the folder holds none.
    """
    file = run / RECORD
    return parse_record(merge(_read(file), overrides or {}), file)


def parse_config(tree: Mapping[str, Any], where: object = "configuration") -> RunConfig:
    """Validate a tree of settings for a new run and resolve it, as :func:`load_config` does."""
    return _validated(RunConfig, tree, where)


def parse_record(tree: Mapping[str, Any], where: object) -> RecordedConfig:
    """Validate the recorded settings of a run, as :func:`load_record` does."""
    return _validated(RecordedConfig, tree, where)


def _validated(kind: type[Config], tree: Mapping[str, Any], where: object) -> Config:
    try:
        return kind.model_validate(tree).resolved()
    except ValidationError as error:
        raise ConfigError.from_pydantic(error, where, RunConfig) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = from_yaml(Path(file).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(file, "a YAML file with a run's configuration", str(error), "check the path and the text") from None
    if not isinstance(tree, dict):
        do = "start from `scribbleseg train --print-config`"
        raise ConfigError(file, "a mapping of keys to values", type(tree).__name__, do)
    return tree


def dump_config(config: RunConfig) -> str:
    """Return the configuration as YAML that :func:`load_config` reads back to the same."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
