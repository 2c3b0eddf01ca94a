"""A second branch for training: another decoder and class head on the same maps."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from scribbleseg.models.decoders import DECODERS
from scribbleseg.models.heads import ClassHead
from scribbleseg.models.segmenter import Segmenter


class Branch(nn.Module):
    """A decoder and class head like a segmenter's, with weights of their own, that get its maps with channels left out.

    It stands beside the segmenter and not inside: the moving average, prediction and the model folder know nothing of it.

    Args:
        segmenter: whose maps it gets, in ``segmenter(image, branch)``.
        dropout: chance of dropping a channel of a map, in training.

    Reference: the auxiliary decoder of arXiv 2203.02106, dropout 0.5.
    """

    def __init__(self, segmenter: Segmenter, dropout: float) -> None:
        super().__init__()
        config = segmenter.config
        self.drop = nn.Dropout2d(dropout)
        self.decoder = DECODERS[config.decoder](segmenter.map_channels, config.channels)
        self.class_head = ClassHead(config.channels, segmenter.num_classes, config.dropout)

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """Return class scores on the grid of the first map."""
        return self.class_head(self.decoder([self.drop(m) for m in maps])).float()
