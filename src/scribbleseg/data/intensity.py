"""From stored values to the three channels in [0, 1] that a network sees."""

from __future__ import annotations

import numpy as np

from scribbleseg.data.readers.image import Image, Window
from scribbleseg.data.shards.files import File
from scribbleseg.errors import DataError
from scribbleseg.reading import Reading, ValueWindow

#: Percentiles are those of at most about so many values a channel.
SAMPLE = 2**18

#: From a stack, so many slices are sampled; from a picture too large to be read whole, so many windows a side.
_SLICES, _GRID, _WINDOW_PX, _WHOLE = 16, 4, 512, 2**22

ADVICE = "write `window: {percentiles: [1, 99]}` in dataset.yaml, or {low: …, high: …}; or rescale to 8 or 16 bit"


#: Ends of the windows of stacks, by path, time of change, channel and window.
Ranges = dict[tuple[File, int, int, ValueWindow], tuple[float, float]]


def rgb_of(
    image: Image,
    reading: Reading,
    window: Window | None = None,
    index: int | None = None,
    ranges: Ranges | None = None,
) -> np.ndarray:
    """Return a picture, or a window of it, as float32 (h, w, 3) in [0, 1].

    Without a ``reading`` grey is repeated, RGB taken as it is and opacity dropped; 8-bit values are divided by 255,
    16-bit by 65535, floats are taken as they are if in [0, 1].

    Args:
        image: opened.
        reading: which channels and values to take.
        window: part of the picture.
        index: of the slice, where the file is a stack.
        ranges: gets the percentiles of stacks, and of pictures read by window, so that they are computed once.

    Raises:
        DataError: undecodable, channels that are not there, or values with no natural range and no window.
    """
    inputs = _inputs(image, reading)
    windows = reading.window
    if windows is None:
        array = image.pixels(window, index)
        if inputs == (0, 0, 0):
            array = np.repeat(array[..., :1], 3, -1)
        elif inputs == (0, 1, 2):
            array = array[..., :3]
        else:
            array = array[..., [c or 0 for c in inputs]]
        rgb = natural(array, image)
    else:
        values = image.read(window, index)
        ranges = ranges if ranges is not None and (image.num_slices > 1 or window is not None) else {}
        changed = image.path.stat().st_mtime_ns
        whole = values if window is None else None
        rgb = np.zeros((*values.shape[:2], 3), np.float32)
        for k, (channel, wanted) in enumerate(zip(inputs, windows, strict=True)):
            if channel is not None:
                key = (image.path, changed, channel, wanted)
                if key not in ranges:
                    ranges[key] = _range(image, channel, wanted, whole)
                low, high = ranges[key]
                np.divide(values[..., channel] - np.float32(low), np.float32(max(high - low, 1e-30)), out=rgb[..., k])
        np.clip(rgb, 0, 1, out=rgb)
    if None in inputs:
        rgb[..., [k for k, channel in enumerate(inputs) if channel is None]] = 0
    return rgb


def _inputs(image: Image, reading: Reading) -> tuple[int | None, ...]:
    """Return the file's channel of each network input."""
    number = image.shape[-1]
    if reading.channels is None:
        if number not in (1, 3, 4):
            do = "say which three the network gets in dataset.yaml, as `channels: [2, 0, 1]` or `channels: [0, 1, null]`"
            raise DataError(image.path, "grey, RGB or RGBA", f"{number} channels", do)
        return (0, 0, 0) if number == 1 else (0, 1, 2)
    highest = max(c for c in reading.channels if c is not None)
    if highest >= number:
        got = f"{number} channels"
        raise DataError(image.path, f"a channel {highest}, counted from 0", got, "mend `channels` in dataset.yaml")
    return reading.channels * 3 if len(reading.channels) == 1 else reading.channels


def natural(array: np.ndarray, image: Image) -> np.ndarray:
    """Bring values to float32 in [0, 1] by the range of their type.

    Raises:
        DataError: a type with no natural range, or floats outside [0, 1].
    """
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.dtype in (np.uint16, np.int32, np.uint32) and int(array.max(initial=0)) <= 65535 and array.min(initial=0) >= 0:
        return array.astype(np.float32) / 65535
    if array.dtype.kind == "f" and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1:
        return array.astype(np.float32)
    got = f"{array.dtype} from {array.min()} to {array.max()}"
    raise DataError(image.path, "8 or 16 bit, or floats in [0, 1]", got, ADVICE)


def _range(image: Image, channel: int, window: ValueWindow, whole: np.ndarray | None) -> tuple[float, float]:
    """Return the lowest and highest value that count, of all slices of the file."""
    if window.percentiles is None:
        assert window.low is not None
        assert window.high is not None
        return window.low, window.high
    low, high = np.percentile(sample(image, channel, whole), window.percentiles)
    return float(low), float(high)


def sample(image: Image, channel: int, whole: np.ndarray | None = None) -> np.ndarray:
    """Return at most about ``SAMPLE`` values of a channel, evenly taken from the whole file; always the same.

    Args:
        image: opened.
        channel: of the file.
        whole: the picture's values if they have been read; of a stack and of a large picture they are not used.

    Cost: a picture of up to 4 million pixels is read whole, of a larger one 16 windows of 512 × 512, of a stack 16 slices.
    """
    height, width, _ = image.shape
    slices = np.unique(np.linspace(0, image.num_slices - 1, min(image.num_slices, _SLICES)).round().astype(int))
    windows: list[Window | None] = [None]
    if height * width > _WHOLE:
        high, wide = min(height, _WINDOW_PX), min(width, _WINDOW_PX)
        tops, lefts = (np.linspace(0, n - side, _GRID).astype(int) for n, side in ((height, high), (width, wide)))
        windows = [Window(int(top), int(left), high, wide) for top in tops for left in lefts]
    share = SAMPLE // (len(slices) * len(windows))
    values = []
    for number in slices:
        for window in windows:
            known = whole if len(slices) == 1 and window is None else None
            part = (image.read(window, int(number)) if known is None else known)[..., channel].ravel()
            values.append(part[:: -(-len(part) // share)])
    return np.concatenate(values)
