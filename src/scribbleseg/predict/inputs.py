"""The images that are to be predicted, and where their masks may go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scribbleseg.data.folder import first_repeated, open_dataset
from scribbleseg.data.images import IMAGE_SUFFIXES
from scribbleseg.data.readers import FOLDERS, is_image
from scribbleseg.data.readers.image import stem_of
from scribbleseg.errors import DataError


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


def refuse_to_overwrite(out: Path, images: Path, folders: Iterable[str]) -> None:
    """Masks are named like the images: they must not land on images, nor on anybody's labels.

    Args:
        out: folder of all outputs.
        images: folder of the images.
        folders: in ``out`` that files are written to; empty for itself.

    Raises:
        DataError: they would.
    """
    precious = [images]
    if (out.parent / "dataset.yaml").is_file():
        spec = open_dataset(out.parent).spec
        precious += [out.parent / folder for folder in (spec.images, spec.scribbles, spec.masks) if folder]
    for place in {out / folder for folder in folders}:
        for kept in precious:
            if place.resolve() == kept.resolve():
                raise DataError(place, "another folder than that of images or labels", "the same", "choose another --out")
