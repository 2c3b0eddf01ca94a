"""What decides a run, to its last number, and where two runs differ in it."""

from __future__ import annotations

from scribbleseg.config import INDIFFERENT, RunConfig
from scribbleseg.config.run import Config
from scribbleseg.losses.objective import complete
from scribbleseg.trees import differing_keys


def completed(config: Config) -> Config:
    """Return the configuration with every number of its losses written out. Completing twice changes nothing."""
    return config.model_copy(update={"losses": complete(config.losses)})


def changes(then: RunConfig, now: RunConfig) -> list[str]:
    """Return the settings, as dotted keys, that make two runs learn differently. A default counts as it is now."""
    one, other = (completed(config).model_dump() for config in (then, now))
    return [key for key in differing_keys(one, other) if key not in INDIFFERENT]
