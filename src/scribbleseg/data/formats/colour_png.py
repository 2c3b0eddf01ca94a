"""Colour PNGs with a palette: each class a colour."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scribbleseg.atomic import write_text
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, become, each
from scribbleseg.data.formats.index_png import FOLDERS, first_readable, label_files, label_folder
from scribbleseg.data.formats.pictures import find_picture, near, write_labels, write_picture
from scribbleseg.data.formats.safety import check_shape, reading
from scribbleseg.errors import DataError
from scribbleseg.palette import class_colours
from scribbleseg.records import UNLABELLED

#: Entries of a palette with such a name mean "not annotated".
UNLABELLED_NAMES = ("unlabelled", "unlabeled", "not annotated", "ignore", "void")


@dataclass(frozen=True)
class Palette:
    """Classes with their colours, and the colours that mean "not annotated".

    Attributes:
        names: class names by id.
        colours: 24-bit colour of each class.
        blank: 24-bit colours that mean "not annotated".
    """

    names: tuple[str, ...]
    colours: tuple[int, ...]
    blank: tuple[int, ...]


class ColourPng(Format):
    """Read and write colour PNGs. Whether black is a class or nothing is never guessed."""

    title = "colour PNG with a palette"
    unlabelled = "a transparent pixel, a palette entry `unlabelled`, `ignore` or `void`, or the one that `--unlabelled` names"
    holds = "RGB or RGBA PNG; palette from labelmap.txt (CVAT, VOC), palette.txt or --palette"
    writes = "labels/STEM.png, labelmap.txt with `unlabelled` as black, images/"
    source = "https://docs.cvat.ai/docs/manual/advanced/formats/format-smask/"
    fallback = True

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        if not path.is_dir() or (path / "dataset.yaml").is_file():
            return None
        name, mode = first_readable(label_folder(path))
        return f"a folder of label pictures in colour, as {name}" if mode in ("RGB", "RGBA") else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class."""
        folder = label_folder(path)
        palette = _palette(path, folder, options)
        files = {str(p.relative_to(folder).with_suffix("")): p for p in label_files(folder)}
        if not files:
            raise DataError(
                path, "a folder of label pictures", f"none in it or in {', '.join(FOLDERS[:4])}…", "name the folder"
            )
        folders = near(folder, options.images)
        names = options.names or palette.names
        if len(names) != len(palette.names):
            raise DataError(path, f"{len(palette.names)} names, as in the palette", str(len(names)), "name every class")

        def load(stem: str) -> Annotated:
            return Annotated(stem, to_labels(files[stem], palette), find_picture(stem, folders, but=files[stem]))

        blank = ", ".join(f"#{c:06x}" for c in palette.blank) or "no colour"
        return Source(names, f"{blank} and transparent mean not annotated (palette); {become(names)}", each(files, load))

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(about.names)] = class_colours(len(about.names))
        if len(np.unique(table[: len(about.names)], axis=0)) < len(about.names):
            raise DataError(about.name, "few enough classes for a colour each", str(len(about.names)), "choose another format")

        def add(image: Annotated) -> None:
            if image.image is not None:
                write_picture(image, out / "images")
            write_labels(out / "labels" / f"{image.stem}.png", table[image.labels])

        yield add
        rows = ["# label:color_rgb:parts:actions", "unlabelled:0,0,0::"]
        rows += [
            f"{name.replace(':', ' ')}:{r},{g},{b}::" for name, (r, g, b) in zip(about.names, table.tolist(), strict=False)
        ]
        write_text(out / "labelmap.txt", "\n".join(rows) + "\n")


def _palette(path: Path, folder: Path, options: Options) -> Palette:
    """Return the palette; what means "not annotated" must be in it, transparent, or named by the user."""
    places = [p / name for p in (path, folder, path.parent) for name in ("labelmap.txt", "palette.txt")]
    file = options.palette or next((p for p in places if p.is_file()), None)
    if file is None:
        do = "write one line a class, `leaf 230 159 0`, and give it: --palette FILE"
        raise DataError(path, "a palette: labelmap.txt beside the labels", "none", do)
    entries = read_palette(file)
    wanted = options.unlabelled
    blank = {name for name in entries if name.lower() in UNLABELLED_NAMES}
    if wanted is not None and wanted.lower() != "none":
        colour = re.fullmatch(r"#?([0-9a-f]{6})", wanted.lower())
        named = {n for n, c in entries.items() if n == wanted or (colour and c == int(colour[1], 16))}
        if not named and not colour:
            got = f"'{wanted}'"
            raise DataError(
                file, "a class of the palette, a colour as #000000, or none", got, f"one of {', '.join(entries)}"[:300]
            )
        blank = named
        extra = () if named or colour is None else (int(colour[1], 16),)
    else:
        extra = ()
    names = tuple(name for name in entries if name not in blank)
    if not names:
        raise DataError(file, "at least one class with its colour", "none", "write one line a class: `leaf 230 159 0`")
    if wanted is None and not blank and first_readable(folder)[1] != "RGBA":
        got = f"the classes {', '.join(names)[:200]}"
        do = (
            f"if nobody drew where it has the colour of '{names[0]}' (CVAT fills the rest with its background): "
            f"--unlabelled '{names[0]}'; if every pixel was annotated: --unlabelled none"
        )
        raise DataError(file, "an entry `unlabelled` or `ignore`, or transparency in the pictures", got, do)
    colours = tuple(entries[name] for name in names)
    if len(names) > 254 or len(set(colours)) < len(colours):
        raise DataError(file, "1 to 254 classes, each with its own colour", f"{len(names)}, some alike", "mend the palette")
    return Palette(names, colours, (*(entries[name] for name in sorted(blank)), *extra))


def read_palette(path: Path) -> dict[str, int]:
    """Return 24-bit colours by class name: ``label:r,g,b:parts:actions``, ``name r g b`` or ``name #rrggbb`` a line.

    Raises:
        DataError: a line is none of these, or a name comes twice.
    """
    with reading(path, "a palette"):
        text = path.open(encoding="utf-8-sig").read(1 << 20)
    entries: dict[str, int] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(
            r"(.+?)[\s:]+(?:#([0-9a-fA-F]{6})|(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3}))\s*(?::.*)?", line.strip()
        )
        parts = [int(v) for v in match.groups()[2:] if v] if match else [256]
        if match is None or max(parts, default=0) > 255 or match[1] in entries:
            do = "one line a class: `leaf 230 159 0`, `leaf #e69f00` or `leaf:230,159,0::`"
            raise DataError(path, "a class with its colour, each once", line[:100], do)
        entries[match[1]] = int(match[2], 16) if match[2] else parts[0] << 16 | parts[1] << 8 | parts[2]
    return entries


def to_labels(path: Path, palette: Palette) -> np.ndarray:
    """Return labels of a colour picture.

    Raises:
        DataError: undecodable, or a colour that the palette has not.
    """
    with reading(path, "a label picture"), Image.open(path) as picture:
        check_shape(path, picture.height, picture.width)
        if picture.format == "JPEG":
            raise DataError(path, "a format that keeps colours, as PNG", "JPEG, which invents new ones", "export as PNG")
        rgba = np.asarray(picture.convert("RGBA"))
    colour = rgba[..., 0].astype(np.int32) << 16 | rgba[..., 1].astype(np.int32) << 8 | rgba[..., 2]
    seen = rgba[..., 3] > 0
    labels = np.full(colour.shape, UNLABELLED, np.uint8)
    known = ~seen | np.isin(colour, palette.blank)
    for class_id, value in enumerate(palette.colours):
        here = seen & (colour == value)
        labels[here] = class_id
        known |= here
    if not known.all():
        strange = int(colour[~known][0])
        got = f"#{strange:06x} in {np.count_nonzero(~known)} pixels"
        raise DataError(path, "only colours of the palette", got, "add the colour to the palette, or export without smoothing")
    return labels
