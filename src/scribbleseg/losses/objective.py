"""The objective: named losses, weighted and ramped, added up."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import Tensor, nn

from scribbleseg.config import LossTerm
from scribbleseg.errors import ConfigError, nearest
from scribbleseg.losses.absent_class import AbsentClassLoss
from scribbleseg.losses.base import Loss
from scribbleseg.losses.branch_cross_entropy import BranchCrossEntropyLoss
from scribbleseg.losses.dense_crf import DenseCRFLoss
from scribbleseg.losses.dynamic_feature import DynamicFeatureLoss
from scribbleseg.losses.dynamic_mixing import DynamicMixingLoss
from scribbleseg.losses.entropy import EntropyLoss
from scribbleseg.losses.feature_consistency import FeatureConsistencyLoss
from scribbleseg.losses.gated_crf import GatedCRFLoss
from scribbleseg.losses.mumford_shah import MumfordShahLoss
from scribbleseg.losses.normalized_cut import NormalizedCutLoss
from scribbleseg.losses.partial_cross_entropy import PartialCrossEntropyLoss
from scribbleseg.losses.partial_dice import PartialDiceLoss
from scribbleseg.losses.potts_relaxation import PottsRelaxationLoss
from scribbleseg.losses.pseudo_label import PseudoLabelLoss
from scribbleseg.losses.ranks import ALONE, Ranks
from scribbleseg.losses.teacher_consistency import TeacherConsistencyLoss
from scribbleseg.losses.total_variation import TotalVariationLoss
from scribbleseg.losses.tree_energy import TreeEnergyLoss
from scribbleseg.records import Batch, Output, Terms
from scribbleseg.trees import merge

#: Every loss by the name it has in a run's configuration.
LOSSES: dict[str, type[Loss]] = {
    "partial_cross_entropy": PartialCrossEntropyLoss,
    "absent_class": AbsentClassLoss,
    "dynamic_feature": DynamicFeatureLoss,
    "feature_consistency": FeatureConsistencyLoss,
    "teacher_consistency": TeacherConsistencyLoss,
    "pseudo_label": PseudoLabelLoss,
    "branch_cross_entropy": BranchCrossEntropyLoss,
    "dynamic_mixing": DynamicMixingLoss,
    "partial_dice": PartialDiceLoss,
    "entropy": EntropyLoss,
    "total_variation": TotalVariationLoss,
    "mumford_shah": MumfordShahLoss,
    "gated_crf": GatedCRFLoss,
    "potts_relaxation": PottsRelaxationLoss,
    "tree_energy": TreeEnergyLoss,
    "dense_crf": DenseCRFLoss,
    "normalized_cut": NormalizedCutLoss,
}


def loss_numbers(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Check the numbers given to a loss and fill in its defaults; a partly given kernel keeps its other defaults.

    Raises:
        ConfigError: unknown loss or number, or a value of the wrong type.
    """
    where = f"losses.{name}"
    if name not in LOSSES:
        raise ConfigError(where, "a known loss", f"'{name}'", nearest(name, LOSSES))
    defaults, form = _form(name)
    for key in numbers:
        if key not in defaults:
            raise ConfigError(f"{where}.{key}", "a known key", f"'{key}'", nearest(key, [*defaults, *LossTerm.model_fields]))
    plain = {key: value.model_dump() if isinstance(value, BaseModel) else value for key, value in defaults.items()}
    try:
        filled = form.model_validate(merge(plain, numbers))
    except ValidationError as error:
        raise ConfigError.from_pydantic(error, where, form) from None
    return {key: getattr(filled, key) for key in defaults}


@cache
def _form(name: str) -> tuple[dict[str, Any], Any]:
    """Return the defaults of a loss's constructor, and the model that checks its numbers."""
    constructor = LOSSES[name].__init__
    types = get_type_hints(constructor, include_extras=True)
    parameters = inspect.signature(constructor).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    fields: dict[str, Any] = {key: (types[key], default) for key, default in defaults.items()}
    return defaults, create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def build_loss(name: str, numbers: Mapping[str, Any]) -> Loss:
    """Make a loss from its name and its constructor's numbers."""
    checked = loss_numbers(name, numbers)
    return LOSSES[name](**checked)


def complete(terms: Mapping[str, LossTerm]) -> dict[str, LossTerm]:
    """Return the terms with every number of every loss written out, as a run's record needs them."""
    return {
        name: LossTerm.model_validate(
            {key: getattr(term, key) for key in LossTerm.model_fields}
            | {
                key: value.model_dump() if isinstance(value, BaseModel) else value
                for key, value in loss_numbers(name, term.numbers()).items()
            }
        )
        for name, term in terms.items()
    }


class Objective(nn.Module):
    """Weighted sum of losses: Σ_n weight_n · ramp_n(progress) · sum_n / count_n, sums and counts over all ranks of a batch.

    Args:
        terms: the ``losses`` section of a run's configuration, resolved.
    """

    def __init__(self, terms: Mapping[str, LossTerm]) -> None:
        super().__init__()
        active = {name: term for name, term in terms.items() if term.weight > 0}
        if not active:
            raise ConfigError("losses", "at least one loss with a weight above 0", "none", "add one, or set its weight")
        self.schedule = active
        self.losses = nn.ModuleDict({name: build_loss(name, term.numbers()) for name, term in active.items()})

    def needs(self, progress: float = 1.0) -> frozenset[str]:
        """Return what the losses take whose weight has begun at this share of the run; at 1, what any of them takes."""
        begun = [loss for name, loss in self.losses.items() if self.schedule[name].weight_at(progress) > 0]
        return frozenset().union(*(loss.needs for loss in begun if isinstance(loss, Loss)))

    def names_that_need(self, data: str) -> list[str]:
        """Return the names of the losses that take something."""
        return [name for name, loss in self.losses.items() if isinstance(loss, Loss) and data in loss.needs]

    def terms(self, output: Output, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Terms]:
        """Return every loss whose weight has begun, as sum and count of this rank."""
        data: dict[str, Any] = {
            "labels": batch.labels,
            "rgb": batch.rgb,
            "drawn": batch.drawn,
            "features": output.features,
            "valid": batch.valid,
            "progress": progress,
            "branch_logits": output.branch_logits,
            "teacher_logits": output.teacher_logits,
            "teacher_clean_logits": output.teacher_clean_logits,
            "teacher_features": output.teacher_features,
            "first_features": output.first_features,
            "ranks": ranks,
        }
        result = {}
        for name, loss in self.losses.items():
            assert isinstance(loss, Loss)
            if self.schedule[name].weight_at(progress) > 0:
                result[name] = loss.terms(output.logits, **{key: data[key] for key in loss.needs})
        return result

    def forward(self, output: Output, batch: Batch, progress: float, ranks: Ranks = ALONE) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total to minimise and each loss's unweighted mean.

        Among several ranks the means are those of the whole batch. The total's gradient is such that the *mean* over ranks, as
        DistributedDataParallel takes it, is the gradient of the whole batch's total; its value is the whole batch's.

        Args:
            progress: share of the run that is done, in [0, 1]; it drives the ramps.
            ranks: the processes that share the batch.
        """
        terms = self.terms(output, batch, progress, ranks)
        total = output.logits.sum() * 0.0
        if not terms:
            return total, {}
        pairs = ranks.sum(torch.stack([torch.stack([t.sum, t.count.to(t.sum.dtype)]).detach() for t in terms.values()]))
        means = {}
        for (name, mine), (whole, count) in zip(terms.items(), pairs, strict=True):
            means[name] = Terms(whole, count).mean
            share = Terms(ranks.number * mine.sum, count).mean
            if ranks.number > 1:  # the gradient of this rank's share, the value of all
                share = share + (means[name] - share.detach())
            total = total + self.schedule[name].weight_at(progress) * share
        return total, means
