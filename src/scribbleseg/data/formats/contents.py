"""What every format speaks of: one annotated image, a source of many, what the user chose, and the format itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from scribbleseg.errors import ConfigError
from scribbleseg.records import Stroke


@dataclass(frozen=True)
class Annotated:
    """One image and what was drawn on it.

    Attributes:
        stem: its name without suffix; may hold folders, never ``..``.
        labels: uint8 (H, W), class ids and 255 where nobody drew.
        image: the picture's file, or its pixels where it is a slice of something larger; None where it was not found.
        strokes: the same as lines, if they are all that the labels are made of; else empty.
        splits: lists that it belongs to.
        mask: the dense truth as the labels are; our own folder alone has one.
        affine: float64 (4, 4), from (column, row, 0) to mm in the patient, where the source says it.
    """

    stem: str
    labels: np.ndarray
    image: Path | np.ndarray | None = None
    strokes: tuple[Stroke, ...] = ()
    splits: tuple[str, ...] = ("train",)
    mask: np.ndarray | None = None
    affine: np.ndarray | None = None


@dataclass(frozen=True)
class Item:
    """One image of a source, not yet read.

    Attributes:
        stem: its name, for messages.
        load: reads it; raises ``DataError`` if it, and it alone, cannot be used.
    """

    stem: str
    load: Callable[[], Annotated]


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        names: class names by id.
        decided: one line that says what means "not annotated" here and what becomes of the other values.
        items: the images, read one at a time. The iterator raises ``DataError`` where the rest cannot be read.
        volume: pattern whose first group names the volume of a slice.
    """

    names: tuple[str, ...]
    decided: str
    items: Iterable[Item]
    volume: str | None = None


@dataclass(frozen=True)
class Options:
    """What the user says about a source.

    Attributes:
        unlabelled: the value, or the class or colour of a palette, that means "not annotated".
        names: class names in the order of their ids.
        images: folder of the pictures, if they are elsewhere.
        width_px: of strokes that are drawn as lines, in pixels of the image.
        palette: file with class names and colours.
    """

    unlabelled: str | None = None
    names: tuple[str, ...] | None = None
    images: Path | None = None
    width_px: float = 3.0
    palette: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.width_px <= 1000:
            raise ConfigError("--width", "a width in pixels above 0, at most 1000", f"{self.width_px:g}", "give another width")
        if self.names is not None and (len(set(self.names)) < len(self.names) or not all(self.names) or len(self.names) > 254):
            raise ConfigError("--names", "1 to 254 names, each once", ", ".join(self.names)[:200], "give each class a name")

    @property
    def value(self) -> int | None:
        """The value that means "not annotated" as a number.

        Raises:
            ConfigError: it was given as something else.
        """
        if self.unlabelled is None:
            return None
        if not (self.unlabelled.isascii() and self.unlabelled.isdigit() and int(self.unlabelled[:9]) <= 65535):
            raise ConfigError("--unlabelled", "a label value, as 0 or 255", f"'{self.unlabelled}'", "give the value")
        return int(self.unlabelled)


@dataclass(frozen=True)
class About:
    """What a written set is called and how its classes are.

    Attributes:
        name: of the data set.
        names: class names by id.
        volume: pattern whose first group names the volume of a slice.
    """

    name: str
    names: tuple[str, ...]
    volume: str | None = None


#: Writes one image; raises ``DataError`` if it, and it alone, cannot be written.
Add = Callable[[Annotated], None]


class Format(ABC):
    """A kind of file or folder that strokes come in.

    Attributes:
        title: what people call it.
        unlabelled: what means "not annotated" in it, in words for the table of formats.
        holds: what of it is read.
        writes: what :meth:`writer` writes; empty if it cannot.
        extra: what ``pip install "scribbleseg[…]"`` must name; empty if nothing.
        source: address of the description it was made from.
        fallback: whether any other format that knows a file is to be preferred.
    """

    title: ClassVar[str]
    unlabelled: ClassVar[str]
    holds: ClassVar[str]
    writes: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    source: ClassVar[str]
    fallback: ClassVar[bool] = False

    @abstractmethod
    def recognise(self, path: Path) -> str | None:
        """Return what speaks for this format, in words, or None. Looks at names and the first bytes, never at whole files."""

    @abstractmethod
    def read(self, path: Path, options: Options) -> Source:
        """Open a source.

        Raises:
            DataError: it is not of this format, or it does not say which value means "not annotated".
            ConfigError: a library or an option is missing.
        """

    def writer(self, out: Path, about: About) -> AbstractContextManager[Add]:
        """Return a context whose value writes one image after another into a folder, new and empty."""
        raise ConfigError("--to", "a format that can be written", self.title, "choose another; --list names them")


def in_order(found: Iterable[str], wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return class names by id: as wanted, or else sorted with any ``background`` first."""
    if wanted is not None:
        return wanted
    return tuple(sorted(set(found), key=lambda name: (name.lower() != "background", name)))


def become(names: Iterable[str]) -> str:
    """Return ``background, leaf become 0, 1`` for class names in the order of their ids."""
    names = tuple(names)
    shown = names if len(names) <= 12 else (*names[:10], "…", names[-1])
    ids = [str(k) for k in range(len(names))]
    ids = ids if len(ids) <= 12 else [*ids[:10], "…", ids[-1]]
    return f"{', '.join(shown)} become{'s' if len(names) == 1 else ''} {', '.join(ids)}"


def each(stems: Iterable[str], load: Callable[[str], Annotated]) -> Iterator[Item]:
    """Yield an item a stem."""
    for stem in stems:
        yield Item(stem, lambda stem=stem: load(stem))
