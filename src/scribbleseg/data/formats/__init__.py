"""Formats that strokes come in, one file each. A new one is one file and one line in :data:`FORMATS`."""

from __future__ import annotations

from pathlib import Path

from scribbleseg.data.formats.coco import Coco
from scribbleseg.data.formats.colour_png import ColourPng
from scribbleseg.data.formats.contents import Format
from scribbleseg.data.formats.cvat import Cvat
from scribbleseg.data.formats.dataset import DatasetFolder
from scribbleseg.data.formats.ilastik import Ilastik
from scribbleseg.data.formats.index_png import IndexPng
from scribbleseg.data.formats.label_studio import LabelStudio
from scribbleseg.data.formats.napari import Napari
from scribbleseg.data.formats.nifti import Nifti
from scribbleseg.data.formats.nnunet import NnUnet
from scribbleseg.data.formats.qupath import QuPath
from scribbleseg.data.formats.rootpainter import RootPainter
from scribbleseg.data.formats.scribblesup import ScribbleSup
from scribbleseg.data.formats.vector_strokes import VectorStrokes
from scribbleseg.errors import ConfigError, DataError, nearest

FORMATS: dict[str, Format] = {
    "dataset": DatasetFolder(),
    "index": IndexPng(),
    "colour": ColourPng(),
    "strokes": VectorStrokes(),
    "scribblesup": ScribbleSup(),
    "label-studio": LabelStudio(),
    "cvat": Cvat(),
    "coco": Coco(),
    "qupath": QuPath(),
    "nnunet": NnUnet(),
    "ilastik": Ilastik(),
    "napari": Napari(),
    "nifti": Nifti(),
    "rootpainter": RootPainter(),
}


def format_named(name: str, option: str) -> Format:
    """Return a format by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FORMATS:
        raise ConfigError(option, "a format", f"'{name}'", nearest(name, FORMATS))
    return FORMATS[name]


def recognise(path: Path) -> tuple[str, str]:
    """Return the name of the format that a file or folder is of, and what speaks for it.

    Raises:
        DataError: there is no such file, no format knows it, or several do.
    """
    if not path.exists():
        raise DataError(path, "a file or folder", "no such file", "check the path")
    found = {name: told for name, each in FORMATS.items() if (told := each.recognise(path)) is not None}
    if len(found) > 1:
        found = {name: told for name, told in found.items() if not FORMATS[name].fallback} or found
    if len(found) == 1:
        return next(iter(found.items()))
    if not found:
        do = "say what it is: --from NAME (scribbleseg convert --list names the formats)"
        raise DataError(path, "a format that can be told from the file", "none that is known", do)
    got = "; ".join(f"{name}: {told}" for name, told in found.items())
    raise DataError(path, "one format", got, f"say which: --from {' or --from '.join(found)}")


def table() -> str:
    """Return the list of formats that the command line prints."""
    rows = [("name", "", "what it is", "not annotated is")]
    rows += [(name, "in, out" if each.writes else "in", each.title, each.unlabelled) for name, each in FORMATS.items()]
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "\n".join("  ".join([*(f"{row[k]:<{widths[k]}}" for k in range(3)), row[3]]) for row in rows)
