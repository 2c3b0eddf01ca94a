"""From one format of strokes to another: image by image, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scribbleseg.atomic import atomic_folder, write_text
from scribbleseg.data.formats import format_named, recognise
from scribbleseg.data.formats.contents import About, Annotated, Item, Options
from scribbleseg.data.formats.labels import check_ids
from scribbleseg.data.formats.safety import safe_name
from scribbleseg.errors import ConfigError, DataError, StorageError


@dataclass
class Summary:
    """What a conversion did.

    Attributes:
        names: class names by id.
        converted: number of images.
        blank: number of images among them without any stroke.
        failed: stem and error of each image that was left out.
        pixels: how often each value occurs, int64 (256,).
        images: in how many images each class is drawn, int64 (256,).
    """

    names: tuple[str, ...]
    converted: int = 0
    blank: int = 0
    failed: list[tuple[str, DataError]] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))

    def count(self, image: Annotated) -> None:
        """Add an image that was converted."""
        found = np.bincount(image.labels.ravel(), minlength=256)
        self.converted += 1
        self.blank += not found[:-1].any()
        self.pixels += found
        self.images += found > 0

    def table(self) -> str:
        """Return the labelled share and the number of images per class, a line each."""
        total = max(1, int(self.pixels.sum()))
        width = max(len("not annotated"), *map(len, self.names))
        rows = [(name, self.pixels[k], self.images[k]) for k, name in enumerate(self.names)]
        lines = [f"  {name:<{width}}  {n / total:>8.3%} of the pixels, in {m} images" for name, n, m in rows]
        lines.append(f"  {'not annotated':<{width}}  {self.pixels[-1] / total:>8.3%}")
        return "\n".join(lines)


def convert(
    path: Path | str,
    out: Path | str,
    options: Options | None = None,
    *,
    source: str | None = None,
    target: str = "dataset",
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Convert annotated images from one format to another.

    An image that cannot be used is left out and reported; the others are converted, one in memory at a time. ``out``
    appears at the end, whole; if nothing could be converted, or the conversion is interrupted, it does not appear.

    Args:
        path: file or folder in the source's format.
        out: folder to write; it must not exist.
        options: what the source does not say itself.
        source: name of its format; recognised if None.
        target: name of the format to write.
        say: gets one line on what was recognised and one on what means "not annotated".
        progress: gets the number of images done.

    Raises:
        DataError: the source is not readable, does not say which value means "not annotated", or no image can be used.
        ConfigError: an unknown format, or a missing library.
        StorageError: ``out`` exists or cannot be written.
    """
    path, out = Path(path), Path(out)
    if out.exists() or out.is_symlink():
        raise StorageError(out, "a new folder", "one that exists", "choose another name; nothing is ever overwritten")
    writing = format_named(target, "--to")
    if not writing.writes:
        raise ConfigError("--to", "a format that can be written", f"'{target}'", "scribbleseg convert --list names them")
    name, told = (source, "you said so") if source is not None else recognise(path)
    opened = format_named(name, "--from").read(path, options or Options())
    _check_names(path, opened.names)
    say(f"{name}: {told}")
    say(opened.decided)
    summary = Summary(opened.names)
    done: set[str] = set()
    with atomic_folder(out) as folder:
        with writing.writer(folder, About(out.name, opened.names, opened.volume)) as add:
            for item in _until_broken(iter(opened.items), path, summary):
                try:
                    image = item.load()
                    if safe_name(image.stem, item.stem) in done:
                        raise DataError(item.stem, "every image once", "its name a second time", "rename or merge the two")
                    check_ids(item.stem, image.labels, opened.names)
                    add(image)
                except DataError as error:
                    summary.failed.append((item.stem, error))
                else:
                    done.add(image.stem)
                    summary.count(image)
                progress(summary.converted + len(summary.failed))
        if not summary.converted:
            if summary.failed:
                first = summary.failed[0][1]
                more = f"; none of the {len(summary.failed)} images can be used" if len(summary.failed) > 1 else ""
                raise DataError(first.where, first.expected, first.got + more, first.do)
            raise DataError(path, "at least one annotated image", "none", "check the path and the export")
        if summary.failed:
            write_text(folder / "failed.txt", "\n\n".join(str(error) for _, error in summary.failed) + "\n")
    return summary


def _check_names(path: Path, names: tuple[str, ...]) -> None:
    """Refuse class names that no data set can have.

    Raises:
        DataError: none, too many, one twice, or one that cannot be printed.
    """
    ok = all(name.strip() and name.isprintable() and len(name) <= 200 for name in names)
    if not ok or not 1 <= len(names) <= 254 or len(set(names)) < len(names):
        got = ", ".join(names)[:200] or "none"
        raise DataError(path, "1 to 254 class names, each once", repr(got)[1:-1], "name the classes: --names a,b,c")


def _until_broken(items: Iterator[Item], path: Path, summary: Summary) -> Iterator[Item]:
    """Yield the items; where the source breaks off, note it and stop."""
    while True:
        try:
            yield next(items)
        except StopIteration:
            return
        except DataError as error:
            summary.failed.append((path.name, error))
            return
