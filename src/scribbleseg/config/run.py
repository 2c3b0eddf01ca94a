"""Everything that decides a run, in one tree of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from scribbleseg.config.sections import DataConfig, LossTerm, ModelConfig, Section, TrainingConfig
from scribbleseg.errors import nearest
from scribbleseg.methods import METHODS
from scribbleseg.trees import merge

#: Settings that do not change what a run learns, but for the last bits: a resumed run may have others.
INDIFFERENT = (
    "training.threads",
    "training.progress_bar",
    "training.snapshots",
    "training.devices",
    "training.num_nodes",
    "training.strategy",
    "data.cache_mib",
    "data.num_workers",
    "data.timeout_s",
)


def _known_method(name: str) -> str:
    if name not in METHODS:
        raise PydanticCustomError("unknown_method", "a known method; {hint}", {"hint": nearest(name, METHODS)})
    return name


class RunConfig(Section):
    """Everything that decides a run.

    Attributes:
        seed: of weights, order, augmentation and dropout.
        method: the losses to start from, a name of ``METHODS``.
        losses: changes to the method's losses, by name; a weight of 0 removes one.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    method: Annotated[str, AfterValidator(_known_method)] = "dfr"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    losses: dict[str, LossTerm] = Field(default_factory=dict)
    training: TrainingConfig = TrainingConfig()

    def resolved(self) -> Self:
        """Return the configuration with the method's losses written out. Resolving twice changes nothing."""
        merged: dict[str, Any] = {name: dict(term) for name, term in METHODS[self.method].items()}
        for name, term in self.losses.items():
            merged[name] = merge(merged.get(name, {}), term.model_dump(exclude_unset=True))
        return self.model_copy(update={"losses": {name: LossTerm(**term) for name, term in merged.items()}})


class RecordedConfig(RunConfig):
    """What a run was made with. It names every loss the run has; what its method has come to be since is not added."""

    def resolved(self) -> Self:
        """Return the configuration as it is."""
        return self


Config = TypeVar("Config", bound=RunConfig)


def without_places(config: Config) -> Config:
    """Return the configuration with the names of folders in place of their paths: to show, not to run."""
    data, model = config.data, config.model
    if data.root is not None:
        data = data.model_copy(update={"root": Path(data.root.name)})
    if isinstance(model.backbone, str) and Path(model.backbone).is_absolute():
        model = model.model_copy(update={"backbone": Path(model.backbone).name})
    return config.model_copy(update={"data": data, "model": model})
