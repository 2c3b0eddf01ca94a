"""The network: backbone → (pyramid) → decoder → class head and feature consistency head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from scribbleseg.config import ModelConfig
from scribbleseg.errors import ConfigError, OutOfMemoryError, nearest
from scribbleseg.memory import begin_again, shortage
from scribbleseg.models.backbone import Backbone, build_backbone
from scribbleseg.models.decoders import DECODERS
from scribbleseg.models.heads import ClassHead, FeatureConsistencyHead
from scribbleseg.models.pyramid import PlainPyramid
from scribbleseg.records import Output

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """Image in [0, 1] to class scores and deep features on the decoder's grid.

    Args:
        config: the model section of a run.
        num_classes: C.
        backbone: made from ``config`` if None.

    Attributes:
        stride: of the output grid, in pixels of the image.
        multiple: sizes that are a multiple of this need no padding.
        map_channels: of each map that the decoder gets.
        halved: whether memory ran out, and :meth:`probabilities` takes half a batch at a time.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, num_classes: int, backbone: Backbone | None = None) -> None:
        super().__init__()
        if config.decoder not in DECODERS:
            raise ConfigError("model.decoder", "a known decoder", f"'{config.decoder}'", nearest(config.decoder, DECODERS))
        self.config, self.num_classes = config, num_classes
        self.backbone = backbone or build_backbone(config.backbone, pretrained=config.pretrained)
        channels = self.backbone.channels
        strides: tuple[float, ...] = self.backbone.strides
        self.pyramid: PlainPyramid | None = None
        if len(set(strides)) == 1:
            self.pyramid = PlainPyramid(channels, self.backbone.strides[0], config.detail_channels)
            channels, strides = self.pyramid.channels, self.pyramid.strides
        self.stride = strides[0]
        self.multiple = self.backbone.multiple
        self.map_channels = tuple(channels)
        self.halved = False
        self.decoder = DECODERS[config.decoder](channels, config.channels)
        self.class_head = ClassHead(config.channels, num_classes, config.dropout)
        self.feature_head = FeatureConsistencyHead([config.channels, *channels], config.feature_dim)
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "B 3 H W"], branch: nn.Module | None = None) -> Output:
        """Return logits and features; sizes that are not a multiple of ``multiple`` are padded inside and cut again.

        Args:
            image: in [0, 1].
            branch: gets the same maps as the decoder; what it returns is ``branch_logits``.
        """
        padded = pad_to(image, self.multiple)
        output = self._run(padded, branch)
        grid = output.logits.shape[-2:]
        rows, columns = (-(-n * g // m) for n, g, m in zip(image.shape[-2:], grid, padded.shape[-2:], strict=True))
        other = output.branch_logits
        return Output(
            output.logits[..., :rows, :columns],
            output.features[..., :rows, :columns],
            None if other is None else other[..., :rows, :columns],
        )

    def _run(self, image: Float[Tensor, "B 3 H W"], branch: nn.Module | None = None) -> Output:
        decoded, maps = self._decoded(image)
        other = None if branch is None else branch(maps)
        return Output(self.class_head(decoded).float(), self.feature_head([decoded, *maps]), other)

    def _decoded(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, list[Tensor]]:
        x = (image - self.mean) / self.std
        maps = self.backbone(x)
        if self.pyramid is not None:
            maps = self.pyramid(x, maps)
        return self.decoder(maps), maps

    def scores(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Return class scores on the decoder's grid, of an image whose sides are multiples of ``multiple``.

        Cost: the feature head, which training alone needs, is not run.
        """
        return self.class_head(self._decoded(image)[0]).float()

    def probabilities(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H W"]:
        """Return class probabilities at the image's size.

        Where memory runs out, the batch goes through in two halves, as do all that follow: the same numbers to rounding.

        Raises:
            OutOfMemoryError: it runs out for a half, or for one image.
        """
        parts: list[Tensor] = []

        def compute() -> None:
            parts[:] = [self._probabilities(part) for part in (image.chunk(2) if self.halved else [image])]

        reason = shortage(compute)
        if reason and not self.halved and len(image) > 1:
            self.halved = True
            begin_again("prediction", reason, "half as many windows go through the network together from here on")
            reason = shortage(compute)
        if reason:
            number = -(-len(image) // 2) if self.halved else len(image)
            expected = f"memory for {number} × {image.shape[-1]} × {image.shape[-2]} px at once"
            do = "free some, predict on another --device, or train with a smaller data.window_px"
            raise OutOfMemoryError("prediction", expected, reason[:200], do)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _probabilities(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H W"]:
        padded = pad_to(image, self.multiple)
        logits = F.interpolate(self.scores(padded), padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., : image.shape[-2], : image.shape[-1]].softmax(1)


def pad_to(image: Float[Tensor, "B 3 H W"], multiple: int) -> Tensor:
    """Pad below and to the right, repeating the border, to a multiple of a number of pixels."""
    below, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image
