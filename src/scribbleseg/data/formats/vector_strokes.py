"""Our own vector strokes: one ``STEM.json`` an image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from scribbleseg.atomic import write_text
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Options, Source, each
from scribbleseg.data.formats.index_png import listed_names
from scribbleseg.data.formats.pictures import find_picture, near, write_picture
from scribbleseg.data.formats.safety import files_in, head, safe_name
from scribbleseg.data.vector import rasterise, read_strokes, write_strokes
from scribbleseg.errors import DataError


class VectorStrokes(Format):
    """Read and write strokes as they were drawn: class, width, points, tool, time, author."""

    title = "scribbleseg strokes"
    unlabelled = "where no brush went, or an eraser last"
    holds = "strokes/STEM.json; names from names.txt"
    writes = "strokes/STEM.json, images/, names.txt; only images whose strokes are lines"
    source = "docs/reference/dataset.md"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        if not path.is_dir() or (path / "dataset.yaml").is_file():
            return None
        files = files_in(_folder(path), ".json", deep=True)
        text = head(files[0], 200) if files else ""
        return f"a folder of strokes, as {files[0].name}" if '"version"' in text and '"size"' in text else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class. Without names every file is read once before, to count the classes."""
        folder = _folder(path)
        files = {safe_name(p.relative_to(folder).as_posix()[:-5], p): p for p in files_in(folder, ".json", deep=True)}
        names = options.names or listed_names(path, folder)
        if names is None:
            highest = max((_highest(file) for file in files.values()), default=-1)
            if highest < 0:
                raise DataError(path, "files of strokes, STEM.json", "none with a brush", "name the folder that holds them")
            names = tuple(f"class{k}" for k in range(highest + 1))
        folders = near(folder, options.images)

        def load(stem: str) -> Annotated:
            strokes, size = read_strokes(files[stem])
            return Annotated(stem, rasterise(strokes, size), find_picture(stem, folders), strokes)

        return Source(names, "no brush means not annotated (scribbleseg strokes)", each(files, load))

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class."""

        def add(image: Annotated) -> None:
            if not image.strokes:
                got = "pixels alone" if (image.labels != 255).any() else "nothing drawn"
                raise DataError(image.stem, "strokes as lines", got, "choose a format that keeps pixels: --to dataset")
            if image.image is not None:
                write_picture(image, out / "images")
            write_strokes(out / "strokes" / f"{image.stem}.json", image.strokes, image.labels.shape)

        yield add
        write_text(out / "names.txt", "\n".join(about.names) + "\n")


def _folder(path: Path) -> Path:
    return path / "strokes" if (path / "strokes").is_dir() else path


def _highest(path: Path) -> int:
    """Return the highest class of a file; −1 if it cannot be read, which is told when it is converted."""
    with contextlib.suppress(DataError):
        return max((stroke.label for stroke in read_strokes(path)[0] if stroke.tool == "brush"), default=-1)
    return -1
