"""The typed configuration of a run."""

from scribbleseg.config.files import RECORD, dump_config, load_config, load_record, parse_config, parse_record
from scribbleseg.config.run import INDIFFERENT, RecordedConfig, RunConfig, without_places
from scribbleseg.config.sections import (
    DataConfig,
    LossTerm,
    ModelConfig,
    RandomWalkerConfig,
    StrokesConfig,
    TrainingConfig,
)

__all__ = [
    "INDIFFERENT",
    "RECORD",
    "DataConfig",
    "LossTerm",
    "ModelConfig",
    "RandomWalkerConfig",
    "RecordedConfig",
    "RunConfig",
    "StrokesConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
    "load_record",
    "parse_config",
    "parse_record",
    "without_places",
]
