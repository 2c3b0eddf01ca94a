"""Prediction: any image to class probabilities at its own size, a folder to masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scribbleseg.data.folder import first_repeated, open_dataset
from scribbleseg.data.images import IMAGE_SUFFIXES, MAX_PIXELS, Image, Window, open_image, write_png, write_tiff
from scribbleseg.data.intensity import Ranges, rgb_of
from scribbleseg.data.listing import slice_stem
from scribbleseg.data.readers import FOLDERS, is_image
from scribbleseg.data.readers.image import stem_of
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.palette import blend
from scribbleseg.refine import refined

#: Share of a window that overlaps the next.
OVERLAP = 0.5

#: Windows that go through the network together.
WINDOW_BATCH = 4

#: A picture of more pixels is read and predicted band by band.
LARGE_PIXELS = 2**25


def window_starts(length: int, window: int) -> list[int]:
    """Return evenly spaced starts so that windows cover ``length`` and overlap by at least ``OVERLAP``."""
    if length <= window:
        return [0]
    number = -(-(length - window) // int(window * (1 - OVERLAP))) + 1
    return [round(k * (length - window) / (number - 1)) for k in range(number)]


@torch.inference_mode()
def probabilities(model: TrainedModel, rgb: np.ndarray) -> Tensor:
    """Return class probabilities (C, H, W) of one image (H, W, 3), 8-bit or floats in [0, 1].

    An image larger than the window is covered by overlapping windows whose probabilities are averaged with a smooth
    weight that falls towards the window's border.
    """
    rgb = as_rgb(rgb)
    network = model.segmenter
    device = network.mean.device
    full = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].to(device)
    height, width = full.shape[-2:]
    image = full
    if model.longest_px and model.longest_px != max(height, width):
        factor = model.longest_px / max(height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        image = F.interpolate(full, size, mode="bilinear", align_corners=False, antialias=factor < 1)
    window = model.window_px
    tops, lefts = window_starts(image.shape[-2], window), window_starts(image.shape[-1], window)
    if len(tops) == len(lefts) == 1:
        probs = network.probabilities(image)
    else:
        probs = _windowed(network.probabilities, image, tops, lefts, window)
    if probs.shape[-2:] != (height, width):
        probs = F.interpolate(probs, (height, width), mode="bilinear", align_corners=False)
    return probs[0]


def as_rgb(rgb: np.ndarray) -> np.ndarray:
    """Return float32 (H, W, 3) in [0, 1]; 8-bit pictures are scaled."""
    if rgb.dtype == np.uint8:
        rgb = rgb / np.float32(255)
    if rgb.ndim != 3 or rgb.shape[-1] != 3 or rgb.dtype.kind != "f" or rgb.min(initial=0) < -0.01 or rgb.max(initial=0) > 1.01:
        got = f"{rgb.dtype} of shape {rgb.shape} from {rgb.min(initial=0)} to {rgb.max(initial=0)}"
        raise DataError("image", "(H, W, 3), 8-bit or floats in [0, 1]", got, "convert it first; read_rgb does for files")
    return rgb.astype(np.float32, copy=False)


def _windowed(run: Callable[[Tensor], Tensor], image: Tensor, tops: list[int], lefts: list[int], window: int) -> Tensor:
    places = [(top, left) for top in tops for left in lefts]
    weight = _weight(image, window)
    high, wide = weight.shape
    mass = torch.zeros(image.shape[-2:], device=image.device)
    for t, x in places:
        mass[t : t + high, x : x + wide] += weight
    return _weighted_sum(run, image, places, weight) / mass


def _weight(image: Tensor, window: int) -> Tensor:
    """Return the weight of a window's pixels, as large as the window is in this image."""
    return torch.outer(*(_hill(min(window, side)) for side in image.shape[-2:])).to(image.device)


def _weighted_sum(run: Callable[[Tensor], Tensor], image: Tensor, places: list[tuple[int, int]], weight: Tensor) -> Tensor:
    """Return the sum of the windows' probabilities, each times ``weight``, (1, C, H, W) on the image's device."""
    high, wide = weight.shape
    total: Tensor | None = None
    for first in range(0, len(places), WINDOW_BATCH):
        group = places[first : first + WINDOW_BATCH]
        probs = run(torch.cat([image[..., t : t + high, x : x + wide] for t, x in group]))
        if total is None:
            total = torch.zeros(1, probs.shape[1], *image.shape[-2:], device=image.device)
        for (t, x), part in zip(group, probs, strict=True):
            total[0, :, t : t + high, x : x + wide] += part * weight
    assert total is not None
    return total


def _hill(length: int) -> Tensor:
    """A Hann window that never reaches zero."""
    return torch.hann_window(length + 2, periodic=False)[1:-1] + 1e-3


def predict_mask(model: TrainedModel, rgb: np.ndarray, refine: str | None = None) -> np.ndarray:
    """Return the most probable class of every pixel, uint8 (H, W)."""
    return refined_probabilities(model, rgb, refine).argmax(0).to(torch.uint8).cpu().numpy()


@torch.inference_mode()
def refined_probabilities(model: TrainedModel, rgb: np.ndarray, refine: str | None) -> Tensor:
    """Return :func:`probabilities`, refined by the method of that name, if any."""
    probs = probabilities(model, rgb)
    return probs if refine is None else refined(refine, probs, as_rgb(rgb))


def predict_folder(
    model_folder: Path | str, images: Path | str, out: Path | str, *, device: str = "auto", refine: str | None = None
) -> Iterator[Path]:
    """Predict every image of a folder (or one image), yielding each mask's path as it is done.

    ``out/STEM.png`` is the index mask at the image's size, ``out/overlays/STEM.png`` the picture with the classes in
    colour; of a stack ``STEM@007.png`` for each slice. Files appear whole or not at all. A picture of more than
    ``LARGE_PIXELS`` gets an overlay of fewer pixels, and one of more than ``MAX_PIXELS`` its mask as tiled TIFF.

    Args:
        refine: a name of :data:`scribbleseg.refine.REFINEMENTS`; not for pictures that are predicted band by band.

    Raises:
        ConfigError: no such refinement.
        DataError: no images, two of one stem, ``out`` is the images' own folder, or a picture too large to be refined.
        ModelError: the model folder is not whole.
    """
    model = load_model(model_folder)
    model.segmenter.to(pick_device(device))
    images, out = Path(images), Path(out)
    _refuse_to_overwrite(out, images if images.is_dir() else images.parent)
    for path in list_images(images):
        with open_image(path, model.reading) as image:
            ranges: Ranges = {}
            for number in range(image.num_slices):
                name = stem_of(path) if image.num_slices == 1 else slice_stem(stem_of(path), number)
                yield _predict_picture(model, image, number, ranges, out, name, refine)


def _predict_picture(
    model: TrainedModel, image: Image, number: int, ranges: Ranges, out: Path, name: str, refine: str | None
) -> Path:
    height, width, _ = image.shape
    mask = np.empty((height, width), np.uint8)
    step = math.ceil(math.sqrt(height * width / LARGE_PIXELS))  # of a large picture the overlay is a small one
    shown = []
    for top, rgb, rows in predicted_bands(model, image, number, ranges, refine):
        mask[top : top + len(rows)] = rows
        shown.append(blend(rgb[-top % step :: step, ::step], rows[-top % step :: step, ::step]))
    write_png(out / "overlays" / f"{name}.png", np.concatenate(shown))
    if height * width <= MAX_PIXELS:
        target = out / f"{name}.png"
        write_png(target, mask)
    else:  # programs refuse to open a PNG of this size
        target = out / f"{name}.tif"
        write_tiff(target, mask)
    return target


def predicted_bands(
    model: TrainedModel, image: Image, number: int, ranges: Ranges | None = None, refine: str | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first row, the colours and the classes of one band of a picture after the other.

    A picture of up to ``LARGE_PIXELS`` is one band. A larger one is read and predicted in rows of windows, the same
    windows that :func:`probabilities` lays over it; so a pixel's class does not depend on it.

    Cost: memory for the windows' height times the picture's width, besides what its format reads at once.
    """
    height, width, _ = image.shape
    if height * width <= LARGE_PIXELS or model.longest_px:
        rgb = rgb_of(image, model.reading, index=number, ranges=ranges)
        yield 0, rgb, predict_mask(model, rgb, refine)
        return
    if refine is not None:
        got = f"{width} × {height}"
        raise DataError(image.path, f"at most {LARGE_PIXELS} pixels to refine", got, "predict it without --refine")
    tops, lefts = window_starts(height, model.window_px), window_starts(width, model.window_px)
    high = min(height, model.window_px)
    total = torch.zeros(len(model.names), high, width)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        rgb = rgb_of(image, model.reading, Window(top, 0, high, width), number, ranges)
        total += _band(model, rgb, lefts)
        done = following - top
        yield top, rgb[:done], total[:, :done].argmax(0).to(torch.uint8).numpy()
        total = F.pad(total[:, done:], (0, 0, 0, done))


def predict_large(
    model: TrainedModel, image: Image, number: int, ranges: Ranges | None = None, refine: str | None = None
) -> np.ndarray:
    """Return the most probable class of every pixel, uint8 (H, W), of a picture that is read and predicted band by band."""
    mask = np.empty(image.shape[:2], np.uint8)
    for top, _, rows in predicted_bands(model, image, number, ranges, refine):
        mask[top : top + len(rows)] = rows
    return mask


@torch.inference_mode()
def _band(model: TrainedModel, rgb: np.ndarray, lefts: list[int]) -> Tensor:
    """Return the weighted sum of the windows' probabilities over one row of windows, (C, h, W)."""
    network = model.segmenter
    image = torch.from_numpy(rgb.transpose(2, 0, 1))[None]  # stays on the CPU, for its sum may be large

    def run(windows: Tensor) -> Tensor:
        return network.probabilities(windows.to(network.mean.device)).float().cpu()

    return _weighted_sum(run, image, [(0, x) for x in lefts], _weight(image, model.window_px))[0]


def _refuse_to_overwrite(out: Path, images: Path) -> None:
    """Masks are named like the images: they must not land on images, nor on anybody's labels."""
    precious = [images]
    if (out.parent / "dataset.yaml").is_file():
        spec = open_dataset(out.parent).spec
        precious += [out.parent / folder for folder in (spec.images, spec.scribbles, spec.masks) if folder]
    for place in (out, out / "overlays"):
        for kept in precious:
            if place.resolve() == kept.resolve():
                raise DataError(place, "another folder than that of images or labels", "the same", "choose another --out")


def list_images(place: Path) -> list[Path]:
    """Return the images of a folder in name order, or the one file.

    Raises:
        DataError: nothing there, or two images of one stem.
    """
    if place.is_file() or place.name.lower().endswith(FOLDERS):
        return [place]
    found = sorted(p for p in place.iterdir() if p.name[0] != "." and is_image(p)) if place.is_dir() else []
    if not found:
        got = "no such folder" if not place.is_dir() else "none"
        raise DataError(place, f"images ({', '.join(IMAGE_SUFFIXES)})", got, "check the path")
    twice = first_repeated(stem_of(p) for p in found)
    if twice is not None:
        raise DataError(place, "one image a stem", f"two named '{twice}'", "rename one: masks are named after the stem")
    return found


def pick_device(name: str) -> torch.device:
    """Return the named device, or the best one here for ``auto``.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                "--device", "auto, or a device of this machine", f"{name}: {reason}", "see `scribbleseg doctor`"
            ) from None
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
