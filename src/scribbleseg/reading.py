"""How stored values become the three channels that a network sees: what ``dataset.yaml`` says, and a model folder keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Percent = Annotated[float, Field(ge=0, le=100)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ValueWindow(BaseModel):
    """The range of values that becomes [0, 1]; what lies beyond is cut off. Either of:

    Attributes:
        percentiles: of each channel's values in the file, as ``[1, 99]``.
        low, high: in the file's own unit, as -100 and 400 Hounsfield units.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # what is unknown is refused below, in words

    percentiles: tuple[Percent, Percent] | None = None
    low: Finite | None = None
    high: Finite | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, tree: Any) -> Any:
        given = {key for key, value in tree.items() if value is not None} if isinstance(tree, Mapping) else set()
        if given not in ({"percentiles"}, {"low", "high"}):
            raise ValueError("write {percentiles: [1, 99]} or {low: -100, high: 400}")
        return tree

    @model_validator(mode="after")
    def _low_to_high(self) -> ValueWindow:
        low, high = (self.low, self.high) if self.percentiles is None else self.percentiles
        if low is None or high is None or low >= high:
            raise ValueError("the lower end first, and below the upper one")
        return self


class ImageValues(BaseModel):
    """What the values of images mean.

    Attributes:
        channels: which channel of the file, from 0, each of the network's three inputs gets; None in the list gives
            zeros, and a list of one serves all three. None for grey and RGB as they are.
        window: which values become [0, 1], of each of the three inputs; a single one is for all. None for 8 and 16 bit
            by their whole range.
        axes: letters of the axes of the files' arrays, where the files do not say: ``y`` and ``x``, ``c`` for channels,
            ``z`` or ``t`` for slices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[Annotated[int, Field(ge=0)] | None, ...] | None = None
    window: tuple[ValueWindow, ValueWindow, ValueWindow] | None = None
    axes: str | None = None

    @field_validator("window", mode="before")
    @classmethod
    def _one_for_all(cls, window: Any) -> Any:
        return (window,) * 3 if isinstance(window, Mapping | ValueWindow) else window

    @field_validator("channels")
    @classmethod
    def _three_inputs(cls, channels: tuple[int | None, ...] | None) -> tuple[int | None, ...] | None:
        if channels is not None and (len(channels) not in (1, 3) or all(c is None for c in channels)):
            raise ValueError("one channel for all three inputs, as [0], or three, as [2, 0, 1] or [0, 1, null]")
        return channels

    @field_validator("axes")
    @classmethod
    def _known_letters(cls, axes: str | None) -> str | None:
        if axes is None:
            return None
        axes = axes.lower()
        if not set(axes) <= set("yxczt") or not {"y", "x"} <= set(axes) or len(set(axes)) < len(axes):
            raise ValueError("each of y and x once, and perhaps c (channels), z and t (slices), as zyx, cyx or yxc")
        return axes


class Reading(ImageValues):
    """How image files are read.

    Attributes:
        array: name of the array in HDF5 and zarr files that hold several.
    """

    array: str | None = None


#: The way without a word about it: grey or RGB, 8 or 16 bit.
PLAIN = Reading()
