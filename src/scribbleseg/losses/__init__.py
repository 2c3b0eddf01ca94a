"""Losses for sparsely labelled segmentation, each an ``nn.Module`` with one calling form."""

from scribbleseg.losses.base import Loss
from scribbleseg.losses.dynamic_feature import DynamicFeatureLoss, Kernel
from scribbleseg.losses.feature_consistency import FeatureConsistencyLoss
from scribbleseg.losses.objective import LOSSES, Objective
from scribbleseg.losses.partial_cross_entropy import PartialCrossEntropyLoss

__all__ = [
    "LOSSES",
    "DynamicFeatureLoss",
    "FeatureConsistencyLoss",
    "Kernel",
    "Loss",
    "Objective",
    "PartialCrossEntropyLoss",
]
