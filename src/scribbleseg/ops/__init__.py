"""The numeric kernels under the losses: each op with its definition and its backends."""

from scribbleseg.ops.dense import dense_energy, dense_filter
from scribbleseg.ops.mean_field import window_mean_field
from scribbleseg.ops.tree import tree_filter
from scribbleseg.ops.windowed import windowed_energy
from scribbleseg.ops.windowed_filter import windowed_filter

__all__ = ["dense_energy", "dense_filter", "tree_filter", "window_mean_field", "windowed_energy", "windowed_filter"]
