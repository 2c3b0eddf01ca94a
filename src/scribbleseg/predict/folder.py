"""A folder of images to masks and overlays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scribbleseg.data.images import MAX_PIXELS, Image, open_image, write_png, write_tiff
from scribbleseg.data.intensity import Ranges
from scribbleseg.data.listing import slice_stem
from scribbleseg.data.readers.image import stem_of
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.palette import blend
from scribbleseg.predict import bands
from scribbleseg.predict.device import pick_device
from scribbleseg.predict.inputs import list_images, refuse_to_overwrite


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
    refuse_to_overwrite(out, images if images.is_dir() else images.parent)
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
    step = math.ceil(math.sqrt(height * width / bands.LARGE_PIXELS))  # of a large picture the overlay is a small one
    shown = []
    for top, rgb, rows in bands.predicted_bands(model, image, number, ranges, refine):
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
