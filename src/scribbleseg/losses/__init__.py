"""Losses for sparsely labelled segmentation, each an ``nn.Module`` with one calling form."""

from scribbleseg.losses.absent_class import AbsentClassLoss
from scribbleseg.losses.base import Loss
from scribbleseg.losses.branch_cross_entropy import BranchCrossEntropyLoss
from scribbleseg.losses.dense_crf import DenseCRFLoss
from scribbleseg.losses.dynamic_feature import DynamicFeatureLoss, Kernel
from scribbleseg.losses.dynamic_mixing import DynamicMixingLoss
from scribbleseg.losses.entropy import EntropyLoss
from scribbleseg.losses.feature_consistency import FeatureConsistencyLoss
from scribbleseg.losses.gated_crf import GatedCRFLoss
from scribbleseg.losses.mumford_shah import MumfordShahLoss
from scribbleseg.losses.normalized_cut import NormalizedCutLoss
from scribbleseg.losses.objective import LOSSES, Objective
from scribbleseg.losses.partial_cross_entropy import PartialCrossEntropyLoss
from scribbleseg.losses.partial_dice import PartialDiceLoss
from scribbleseg.losses.potts_relaxation import PottsRelaxationLoss
from scribbleseg.losses.pseudo_label import PseudoLabelLoss
from scribbleseg.losses.ranks import Ranks
from scribbleseg.losses.teacher_consistency import TeacherConsistencyLoss
from scribbleseg.losses.total_variation import TotalVariationLoss
from scribbleseg.losses.tree_energy import TreeEnergyLoss

__all__ = [
    "LOSSES",
    "AbsentClassLoss",
    "BranchCrossEntropyLoss",
    "DenseCRFLoss",
    "DynamicFeatureLoss",
    "DynamicMixingLoss",
    "EntropyLoss",
    "FeatureConsistencyLoss",
    "GatedCRFLoss",
    "Kernel",
    "Loss",
    "MumfordShahLoss",
    "NormalizedCutLoss",
    "Objective",
    "PartialCrossEntropyLoss",
    "PartialDiceLoss",
    "PottsRelaxationLoss",
    "PseudoLabelLoss",
    "Ranks",
    "TeacherConsistencyLoss",
    "TotalVariationLoss",
    "TreeEnergyLoss",
]
