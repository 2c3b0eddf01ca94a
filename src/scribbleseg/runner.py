"""Predict with an exported model: NumPy, ONNX Runtime and Pillow, no PyTorch.

`scribbleseg export` puts a copy of this file beside `model.onnx`, and it needs nothing else of scribbleseg:

    pip install numpy onnxruntime pillow
    python runner.py model.onnx photo.jpg mask.png
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

#: Share of a window that overlaps the next.
OVERLAP = 0.5

#: Percentiles are those of at most about so many values; of a picture of more than ``WHOLE`` pixels, of 4 × 4 windows.
SAMPLE, WHOLE, GRID, PART_PX = 2**18, 2**22, 4, 512

#: Formats of masks: those that keep every value.
LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


class Runner:
    """An exported model.

    Args:
        path: of ``model.onnx``.
        threads: of the CPU; 0 leaves the runtime's choice.

    Attributes:
        names: class names by id.
        window_px: larger pictures are covered by overlapping windows of this side, unless the model resizes them by itself.
        resizes: the model brings every picture to one length by itself.
        reading: which channels and values of a file it was trained on; empty for grey and RGB as they are.

    Raises:
        ValueError: the file is missing, damaged, or was not written by scribbleseg.
    """

    def __init__(self, path: Path | str, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        available = onnxruntime.get_available_providers()
        wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # of types of its own
            raise ValueError(f"{path}: no ONNX model that can be read: {_line(error)}") from None
        about: dict[str, Any] = self._session.get_modelmeta().custom_metadata_map
        try:
            self.names: tuple[str, ...] = tuple(json.loads(about["names"]))
            self.window_px, self.resizes = int(about["window_px"]), int(about["longest_px"]) > 0
            self.reading: dict[str, Any] = json.loads(about.get("reading", "{}"))
            self._type = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[self._session.get_inputs()[0].type]
        except (KeyError, ValueError):
            raise ValueError(f"{path}: no model that `scribbleseg export` wrote: its metadata are missing") from None

    def read(self, path: Path | str) -> np.ndarray:
        """Return a picture file as the model takes it, (H, W, 3); an array in a ``.npy`` file is not read but mapped.

        Grey becomes three equal channels, opacity is dropped, EXIF orientation followed, 16 bits scaled; a model of 8-bit
        pictures gets them rounded to 8 bits.

        Raises:
            ValueError: missing, damaged, several pages, or of values without a natural range.
        """
        if str(path).lower().endswith(".npy"):
            try:
                array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: no array that can be read: {_line(error)}") from None
            return array
        rgb = read_picture(path, self.reading.get("channels"), self.reading.get("window"))
        if self._type == np.uint8 and rgb.dtype != np.uint8:
            return (255 * rgb).round().astype(np.uint8)
        return rgb

    def probabilities(self, rgb: np.ndarray) -> np.ndarray:
        """Return class probabilities (C, H, W) of a picture (H, W, 3), 8-bit or floats in [0, 1].

        Raises:
            ValueError: another shape, or floats for a model of 8-bit pictures.
        """
        found = np.empty((len(self.names), *rgb.shape[:2]), np.float32)
        for top, rows in self._bands(rgb):
            found[:, top : top + rows.shape[1]] = rows
        return found

    def mask(self, rgb: np.ndarray) -> np.ndarray:
        """Return the most probable class of every pixel, uint8 (H, W).

        Cost: memory for the mask, and for the probabilities of one row of windows.

        Raises:
            ValueError: as ``probabilities``.
        """
        found = np.empty(rgb.shape[:2], np.uint8)
        for top, rows in self._bands(rgb):
            found[top : top + rows.shape[1]] = rows.argmax(0)
        return found

    def _bands(self, rgb: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
            raise ValueError(f"a picture of shape (H, W, 3) is needed, not {rgb.shape}")
        if rgb.dtype not in (np.uint8, self._type):
            raise ValueError(f"this model takes {self._type.__name__}, not {rgb.dtype}")
        side = max(rgb.shape[:2]) if self.resizes else self.window_px
        return bands(self._run, rgb, side, len(self.names))

    def _run(self, rgb: np.ndarray) -> np.ndarray:
        if self._type == np.float32 and rgb.dtype == np.uint8:
            rgb = rgb.astype(np.float32) / np.float32(255)
        if self._type == np.float32 and not (rgb.min() >= -0.01 and rgb.max() <= 1.01):
            raise ValueError(f"floats in [0, 1] are needed, not from {rgb.min()} to {rgb.max()}")
        try:
            (probs,) = self._session.run(None, {"image": np.ascontiguousarray(rgb)[None]})
        except Exception as error:  # of types of its own
            raise ValueError(f"the model cannot take {rgb.shape[1]} × {rgb.shape[0]} pixels: {_line(error)}") from None
        return np.asarray(probs[0])


def bands(
    run: Callable[[np.ndarray], np.ndarray], rgb: np.ndarray, side: int, num_classes: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row and the probabilities (C, h, W) of one band of a picture after the other.

    Windows that overlap are averaged with a weight that falls towards their border. A picture as large as one is one band.

    Args:
        run: from a window (h, w, 3) to its probabilities (C, h, w).
        rgb: picture (H, W, 3).
        side: of the windows.
        num_classes: C.
    """
    height, width = rgb.shape[:2]
    tops, lefts = _starts(height, side), _starts(width, side)
    if len(tops) == len(lefts) == 1:
        yield 0, run(rgb)
        return
    high, wide = min(height, side), min(width, side)
    weight = np.outer(_hill(high), _hill(wide))
    total, mass = np.zeros((num_classes, high, width), np.float32), np.zeros((high, width), np.float32)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        for left in lefts:
            total[:, :, left : left + wide] += run(rgb[top : top + high, left : left + wide]) * weight
            mass[:, left : left + wide] += weight
        done = following - top
        yield top, total[:, :done] / mass[:done]
        total[:, : high - done], mass[: high - done] = total[:, done:].copy(), mass[done:].copy()
        total[:, high - done :], mass[high - done :] = 0, 0


def _starts(length: int, window: int) -> list[int]:
    if length <= window:
        return [0]
    number = -(-(length - window) // int(window * (1 - OVERLAP))) + 1
    return [round(k * (length - window) / (number - 1)) for k in range(number)]


def _hill(length: int) -> np.ndarray:
    return (np.hanning(length + 2)[1:-1] + 1e-3).astype(np.float32)


def read_picture(path: Path | str, channels: Any = None, window: Any = None) -> np.ndarray:
    """Return a picture as 8 bits (H, W, 3) where it has no more and nothing else is asked for, else floats in [0, 1].

    Args:
        path: of the file.
        channels: of the file for each of the three inputs, None for zeros; a list of one serves all three.
        window: for each of the three, ``low`` and ``high`` or ``percentiles`` of the values that become [0, 1].

    Raises:
        ValueError: missing, damaged, several pages, another number of channels, or values without a natural range.
    """
    values = _stored(path)
    number = values.shape[2]
    if channels is None:
        channels = [0, 0, 0] if number == 1 else [0, 1, 2]
    inputs = list(channels) * (3 if len(channels) == 1 else 1)
    if max(c for c in inputs if c is not None) >= number:
        raise ValueError(f"{path}: this model takes channels {inputs} of a file, counted from 0, and this one has {number}")
    if window is None and values.dtype == np.uint8:
        rgb = values[..., [c or 0 for c in inputs]]
    elif window is None:
        rgb = _natural(values, path)[..., [c or 0 for c in inputs]]
    else:
        rgb = np.zeros((*values.shape[:2], 3), np.float32)
        for k, (channel, wanted) in enumerate(zip(inputs, window, strict=True)):
            if channel is not None:
                plane = values[..., channel].astype(np.float32)
                percentiles = wanted.get("percentiles")
                low, high = np.percentile(_sample(plane), percentiles) if percentiles else (wanted["low"], wanted["high"])
                rgb[..., k] = np.clip((plane - np.float32(low)) / np.float32(max(high - low, 1e-30)), 0, 1)
    rgb[..., [k for k, channel in enumerate(inputs) if channel is None]] = 0
    return rgb


def _stored(path: Path | str) -> np.ndarray:
    """Return what a file holds, (H, W, channels), upright and without opacity."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                pages = getattr(picture, "n_frames", 1)
                turned = ImageOps.exif_transpose(picture)
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"{path}: more than {limit} pixels: cut it, or give it as a .npy file") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # a damaged file makes a dozen unrelated types
        raise ValueError(f"{path}: no picture that can be read: {_line(error)}") from None
    if pages > 1:
        raise ValueError(f"{path}: {pages} pages or slices: export them as files of their own")
    if turned.mode in ("P", "PA", "LA"):
        turned = turned.convert("RGBA")
    if turned.mode not in ("L", "RGB", "I", "F") and not turned.mode.startswith("I;16"):
        turned = turned.convert("RGB")
    array = np.array(turned)
    return array if array.ndim == 3 else array[..., None]


def _natural(values: np.ndarray, path: Path | str) -> np.ndarray:
    """Bring 16 bits or floats to [0, 1]."""
    low, high = values.min(), values.max()
    if values.dtype.kind in "ui" and low >= 0 and high <= 65535:
        return values.astype(np.float32) / np.float32(65535)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32)
    raise ValueError(f"{path}: 8 or 16 bits, or floats in [0, 1], are needed, not {values.dtype} from {low} to {high}")


def _sample(plane: np.ndarray) -> np.ndarray:
    """Return about ``SAMPLE`` values, evenly from a picture, of a large one from windows of it."""
    parts = [plane]
    if plane.size > WHOLE:
        sides = [min(n, PART_PX) for n in plane.shape]
        tops, lefts = (np.linspace(0, n - side, GRID).astype(int) for n, side in zip(plane.shape, sides, strict=True))
        parts = [plane[top : top + sides[0], left : left + sides[1]] for top in tops for left in lefts]
    share = SAMPLE // len(parts)
    return np.concatenate([part.ravel()[:: -(-part.size // share)] for part in parts])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write a mask; the file appears whole or not at all.

    Raises:
        ValueError: a format that changes values, or a place that cannot be written.
    """
    if path.suffix.lower() not in LOSSLESS:
        raise ValueError(f"{path}: a mask needs a format that keeps its values: {', '.join(LOSSLESS)}")
    part = path.with_name(f"writing-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(part)
        part.replace(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {_line(error)}") from None
    finally:
        part.unlink(missing_ok=True)


def _predict(runner: Runner, picture: Path, target: Path) -> None:
    mask = runner.mask(runner.read(picture))
    write_mask(mask, target)
    shares = np.bincount(mask.ravel(), minlength=len(runner.names)) / mask.size
    print(f"{target}: " + ", ".join(f"{name} {share:.1%}" for name, share in zip(runner.names, shares, strict=True)))


def _pictures(folder: Path, out: Path) -> list[Path]:
    """Return the pictures of a folder.

    Raises:
        ValueError: none, two of one stem, or the masks would land among them.
    """
    known = {*Image.registered_extensions(), ".npy"}
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in known and path.name[0] != ".")
    twice = next((one for one, other in pairwise(sorted(path.stem for path in found)) if one == other), None)
    if not found or twice:
        raise ValueError(f"{folder}: two pictures named {twice}" if found else f"{folder}: no pictures in it")
    if out.resolve() == folder.resolve():
        raise ValueError(f"{out}: the pictures are there; give another folder for the masks")
    return found


def main() -> None:
    """Predict one picture, or a folder of them, from the command line."""
    parser = argparse.ArgumentParser(description="Predict masks with a model that scribbleseg exported, without PyTorch.")
    parser.add_argument("model", type=Path, help="model.onnx")
    parser.add_argument("picture", type=Path, help="a picture, or a folder of pictures")
    parser.add_argument("mask", type=Path, help="file of class ids to write, as mask.png; of a folder's masks, the folder")
    parser.add_argument("--threads", type=int, default=0, help="threads of the CPU; 0 leaves the choice to ONNX Runtime")
    given = parser.parse_args()
    try:
        runner = Runner(given.model, max(0, given.threads))
        if not given.picture.is_dir():
            _predict(runner, given.picture, given.mask)
            return
        pictures = _pictures(given.picture, given.mask)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"runner.py: {error}") from None
    failed = 0
    for picture in pictures:
        try:
            _predict(runner, picture, given.mask / f"{picture.stem}.png")
        except ValueError as error:
            failed += 1
            print(f"runner.py: {error}", file=sys.stderr)
    if failed:
        raise SystemExit(f"runner.py: {failed} of {len(pictures)} files have no mask")


if __name__ == "__main__":
    main()
