"""The encoder of a U-Net: small, without pretraining, its finest map as fine as the image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from scribbleseg.models.blocks import Residual, conv_block

Count = Annotated[int, Field(ge=1, strict=True)]


class UNetSettings(BaseModel):
    """What ``model.backbone`` may say of a U-Net.

    Attributes:
        hidden_sizes: channels of each level, finest first.
        depths: convolutions of each level; None for two.
        stride: of the finest level. 2 leaves the image's own resolution out, for a quarter of the work.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["unet"] = "unet"
    hidden_sizes: Annotated[tuple[Count, ...], Field(min_length=2, max_length=8)] = (16, 32, 64, 128, 256)
    depths: tuple[Count, ...] | None = None
    stride: Literal[1, 2] = 1

    @model_validator(mode="after")
    def _a_depth_a_level(self) -> UNetSettings:
        if self.depths is not None and len(self.depths) != len(self.hidden_sizes):
            raise ValueError(f"depths must have one number a level, {len(self.hidden_sizes)} in all")
        return self


class UNetEncoder(nn.Module):
    """Levels of 3×3 convolutions, each on a grid half as fine as the one before (maximum of 2×2 cells).

    Map k has ``hidden_sizes[k]`` channels at stride ``stride``·2^k. With ``decoder: unet`` it is the U-Net.

    Cost: level k takes depths[k]·9·C_k² multiplications a cell; with channels that double, every level takes as many.

    Reference: Ronneberger, Fischer, Brox, *U-Net*, arXiv 1505.04597; here convolutions keep the size, group norm and GELU
    stand in place of bare ReLU, and from the second on, a level's convolutions add to what they are given.

    Args:
        settings: see :class:`UNetSettings`.
    """

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        sizes = settings.hidden_sizes
        depths = settings.depths or (2,) * len(sizes)
        levels = []
        for k, (inputs, outputs, depth) in enumerate(zip((3, *sizes), sizes, depths, strict=False)):
            first = conv_block(inputs, outputs, 3, settings.stride if k == 0 else 1)
            levels.append(nn.Sequential(first, *(Residual(conv_block(outputs, outputs)) for _ in range(depth - 1))))
        self.levels = nn.ModuleList(levels)
        self.halve = nn.MaxPool2d(2)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Return the maps, finest first."""
        maps: list[Any] = []
        for level in self.levels:
            maps.append(level(self.halve(maps[-1]) if maps else image))
        return maps
