"""How stored values become the three channels that a network sees: what ``dataset.yaml`` says, and a model folder keeps."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Percent = Annotated[float, Field(ge=0, le=100)]


class ValueWindow(BaseModel):
    """The range of values that becomes [0, 1]; what lies beyond is cut off. Either of:

    Attributes:
        percentiles: of each channel's values in the file, as ``[1, 99]``.
        low, high: in the file's own unit, as -100 and 400 Hounsfield units.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    percentiles: tuple[Percent, Percent] | None = None
    low: Annotated[float, Field(allow_inf_nan=False)] | None = None
    high: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _one_range(self) -> ValueWindow:
        ends = (self.low, self.high) if self.percentiles is None else self.percentiles
        mixed = self.percentiles is not None and (self.low is not None or self.high is not None)
        if mixed or ends[0] is None or ends[1] is None:
            raise ValueError("write {percentiles: [1, 99]} or {low: -100, high: 400}")
        if ends[0] >= ends[1]:
            raise ValueError("the lower end first, and below the upper one")
        return self


class Reading(BaseModel):
    """How the images of a data set are read.

    Attributes:
        channels: which channel of the file, from 0, each of the network's three inputs gets; None in the list gives
            zeros, and a list of one serves all three. None for grey and RGB as they are.
        window: which values become [0, 1], for all three inputs or one each. None for 8 and 16 bit by their whole range.
        axes: letters of the axes of the files' arrays, where the files do not say: ``y`` and ``x``, ``c`` for channels
            and one of ``z``, ``t`` for slices.
        array: name of the array in HDF5 and zarr files that hold several.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[Annotated[int, Field(ge=0)] | None, ...] | None = None
    window: ValueWindow | tuple[ValueWindow, ValueWindow, ValueWindow] | None = None
    axes: str | None = None
    array: str | None = None

    @field_validator("channels")
    @classmethod
    def _three_inputs(cls, channels: tuple[int | None, ...] | None) -> tuple[int | None, ...] | None:
        if channels is not None and (len(channels) not in (1, 3) or all(c is None for c in channels)):
            raise ValueError("one channel for all three inputs, as [0], or three, as [2, 0, 1] or [0, 1, null]")
        return channels

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, axes: str | None) -> str | None:
        return None if axes is None else checked_axes(axes.lower())

    @property
    def windows(self) -> tuple[ValueWindow, ValueWindow, ValueWindow] | None:
        """The window of each input, or None."""
        return (self.window,) * 3 if isinstance(self.window, ValueWindow) else self.window


def checked_axes(axes: str) -> str:
    """Return the axes if they are ones that a picture or stack can have.

    Raises:
        ValueError: they are not.
    """
    known = set(axes) <= set("yxczt") and {"y", "x"} <= set(axes) and len(set(axes)) == len(axes)
    if not known:
        raise ValueError("each of y and x once, and perhaps c (channels), z and t (slices), as zyx, cyx or yxc")
    return axes
