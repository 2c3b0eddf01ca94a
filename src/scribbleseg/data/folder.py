"""Our own plain layout: a folder with ``dataset.yaml``, images, scribbles, perhaps masks, and lists of stems."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from scribbleseg.data.images import Window, image_size, open_image, read_index, read_rgb
from scribbleseg.data.intensity import Ranges, rgb_of
from scribbleseg.data.listing import Listing, Source, slice_stem, split_slice
from scribbleseg.data.readers import pillow, reader_of
from scribbleseg.data.shards.files import File, Shards
from scribbleseg.data.shards.index import open_shards
from scribbleseg.data.shards.keys import ShardsSpec, naming
from scribbleseg.data.vector import rasterise, read_strokes
from scribbleseg.errors import ConfigError, DataError, nearest
from scribbleseg.reading import PLAIN, ImageValues, Reading
from scribbleseg.records import UNLABELLED
from scribbleseg.trees import from_yaml


class DatasetSpec(ImageValues):
    """The contents of ``dataset.yaml``.

    Attributes:
        name: of the data set.
        names: class names by id, ids from 0 without gaps.
        images, scribbles, masks: folders; ``masks`` may be absent.
        strokes: folder of vector strokes, ``STEM.json``, drawn where ``scribbles`` has no file of the stem; may be absent.
        unlabelled: the value in the label files that means "not annotated"; becomes 255 on reading.
        splits: files with one stem a line.
        volume: pattern whose first group names the volume that a slice belongs to.
        channels, window, axes: what the images' values mean, see :class:`~scribbleseg.reading.ImageValues`.
        arrays: names of the arrays in HDF5 and zarr files that hold several, by what they are.
        shards: that the files are in tar files, and how they are named there.
    """

    name: str
    names: dict[Annotated[int, Field(ge=0, lt=UNLABELLED)], str]
    images: str = "images"
    scribbles: str = "scribbles"
    strokes: str | None = None
    masks: str | None = None
    unlabelled: Annotated[int, Field(ge=0, le=255)] = UNLABELLED
    splits: dict[str, str]
    volume: str | None = None
    arrays: dict[Literal["images", "scribbles", "masks"], str] = Field(default_factory=dict)
    shards: ShardsSpec | None = None

    @property
    def reading(self) -> Reading:
        """How the images are read."""
        return Reading(channels=self.channels, window=self.window, axes=self.axes, array=self.arrays.get("images"))

    @field_validator("names")
    @classmethod
    def _ids_from_zero(cls, names: dict[int, str]) -> dict[int, str]:
        if sorted(names) != list(range(len(names))) or len(names) < 2:
            raise ValueError("class ids must run from 0 without gaps, at least two")
        if len(set(names.values())) < len(names):
            raise ValueError("two classes have the same name")
        return names

    @model_validator(mode="after")
    def _unlabelled_is_no_class(self) -> DatasetSpec:
        if self.unlabelled in self.names:
            raise ValueError(
                f"unlabelled: {self.unlabelled} is also the id of a class; no stroke of it could be told from none"
            )
        return self

    @field_validator("volume")
    @classmethod
    def _one_group(cls, volume: str | None) -> str | None:
        if volume is not None and re.compile(volume).groups < 1:
            raise ValueError("the pattern needs a group around the volume's name")
        return volume


@dataclass(frozen=True)
class Dataset:
    """An opened data set; files are read when asked for.

    Attributes:
        root: its folder.
        spec: its ``dataset.yaml``.
        walked: folder of the labels that a random walker made of the scribbles for a run, if one did.
        redraw: what becomes of scribbles once they are read, from labels and stem, if a run wants them changed.
        width_px: of the brushes with which ``strokes`` are drawn again instead of reading ``scribbles``, if a run wants it.
        shards: the tar files its files are in, if it is no plain folder.
        listing: finds the files of stems.
        ranges: percentiles of the stacks that were read.
    """

    root: Path
    spec: DatasetSpec
    walked: Path | None = None
    redraw: Callable[[np.ndarray, str], np.ndarray] | None = None
    width_px: float | None = None
    shards: Shards | None = field(default=None, compare=False, repr=False)
    listing: Listing = field(default_factory=Listing, compare=False, repr=False)
    ranges: Ranges = field(default_factory=dict, compare=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(self.spec.names[k] for k in sorted(self.spec.names))

    def folder(self, kind: str) -> File:
        """Return the folder of ``images``, ``scribbles``, ``strokes`` or ``masks``, on disk or in shards."""
        name = str(getattr(self.spec, kind))
        return self.root / name if self.shards is None else self.shards.folder(name)

    def listed(self, split: str) -> tuple[str, ...]:
        """Return the lines of a split's list as they stand, without empty ones.

        Raises:
            DataError: unknown split, or a list that cannot be read.
        """
        if split not in self.spec.splits:
            raise DataError(
                self.root / "dataset.yaml", f"a split '{split}'", "none of that name", nearest(split, self.spec.splits)
            )
        path = self.root / self.spec.splits[split]
        try:
            return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            got = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise DataError(path, "a list of stems, one a line", got, "write the list") from None

    def stems(self, split: str) -> tuple[str, ...]:
        """Return the stems of a split; a line ``STACK@*`` stands for every slice of a stack.

        Raises:
            DataError: unknown split, missing or empty list, a name twice, or one that leaves the folder.
        """
        stems, path = self.listed(split), self.root / self.spec.splits[split]
        if not stems or any(map(leaves_the_folder, stems)):
            raise DataError(
                path, "stems inside the image folder, at least one", "an empty list or a path outside", "mend the list"
            )
        stems = tuple(slice_ for stem in stems for slice_ in self.slices(stem))
        twice = first_repeated(stems)
        if twice is not None:
            raise DataError(path, "every stem once", f"'{twice}' twice", "take the second one out")
        return stems

    def slices(self, stem: str) -> tuple[str, ...]:
        """Return the stems of all slices for ``STACK@*``, else the stem itself.

        Raises:
            DataError: the stack is missing or cannot be read.
        """
        stack = split_slice(stem)
        if stack is None or stack[1] != "*":
            return (stem,)
        with open_image(self.image_path(stack[0]), self.spec.reading) as image:
            return tuple(slice_stem(stack[0], number) for number in range(image.num_slices))

    def image_path(self, stem: str) -> File:
        """Return the image file of a stem."""
        return self.image_source(stem).path

    def image_source(self, stem: str) -> Source:
        """Return the image file of a stem, and which slice of it."""
        return self.listing.find(self.folder("images"), stem)

    def rgb(self, stem: str, otherwise: Reading = PLAIN) -> np.ndarray:
        """Read an image: float32 (H, W, 3) in [0, 1].

        Args:
            stem: of the image.
            otherwise: how it is read if ``dataset.yaml`` says nothing about it: as the model's training data were.
        """
        path, number = self.image_source(stem)
        return read_rgb(path, self.reading(otherwise), number, self.ranges)

    def reading(self, otherwise: Reading) -> Reading:
        """Return how images are read: as ``dataset.yaml`` says or, if it says nothing, ``otherwise``."""
        return otherwise if self.spec.reading == PLAIN else self.spec.reading

    def rgb_window(self, stem: str, window: Window) -> np.ndarray:
        """Read a part of an image, as :meth:`rgb` reads all of it."""
        path, number = self.image_source(stem)
        with open_image(path, self.spec.reading) as image:
            return rgb_of(image, self.spec.reading, window, number, self.ranges)

    def size(self, stem: str) -> tuple[int, int]:
        """Return (height, width) of an image from the file's header alone."""
        return image_size(self.image_path(stem), self.spec.reading)

    def spacing_mm(self, stem: str) -> tuple[float, float] | None:
        """Return the distances between the rows and the columns of an image, or None where the file does not say."""
        path = self.image_path(stem)
        if reader_of(path) is pillow.opened:  # its formats know dots per inch at most, and looking may decode all of it
            return None
        with open_image(path, self.spec.reading) as image:
            return image.spacing_mm

    def has_masks(self) -> bool:
        """Say whether dense masks are at hand at all."""
        return self.spec.masks is not None and self.folder("masks").is_dir()

    def labels(self, stem: str, kind: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """Read labels: uint8 (H, W), class ids and 255.

        Args:
            stem: of the image.
            kind: ``scribbles``, ``random_walker`` or ``masks``.
            size: (height, width) that they must have.

        Raises:
            DataError: missing, undecodable, another size, or an id that is not in ``names``.
        """
        labels, path = self._drawn(stem) if kind == "scribbles" else self._read(stem, kind)
        if size is not None and labels.shape != size:
            raise DataError(
                path,
                f"the size of its image, {size[1]} × {size[0]} pixels",
                f"{labels.shape[1]} × {labels.shape[0]}",
                "re-export the labels at the image's size",
            )
        strange = set(np.flatnonzero(np.bincount(labels.ravel())).tolist()) - set(self.spec.names) - {UNLABELLED}
        if strange:
            known = ", ".join(f"{k} {v}" for k, v in sorted(self.spec.names.items()))
            raise DataError(
                path,
                f"class ids {known}; {self.spec.unlabelled} where nobody drew",
                f"id {', '.join(map(str, sorted(strange)))}",
                "add the class to `names` in dataset.yaml, or mend the file",
            )
        return self.redraw(labels, stem) if self.redraw is not None and kind == "scribbles" else labels

    def _drawn(self, stem: str) -> tuple[np.ndarray, File]:
        """Return scribbles, drawn from vector strokes or read from the label file, and their file."""
        path = self.strokes_path(stem)
        if path is None:
            return self._read(stem, "scribbles")
        strokes, size = read_strokes(path)
        return rasterise(strokes, size, self.width_px), path

    def strokes_path(self, stem: str) -> File | None:
        """Return the file of vector strokes that is drawn for a stem: where there is no label file, or a width is wanted."""
        if self.spec.strokes is None:
            return None
        path = self.folder("strokes") / f"{stem}.json"
        wanted = self.width_px or (path.is_file() and not self.listing.has(self.folder("scribbles"), stem))
        return path if wanted else None

    def _read(self, stem: str, kind: str) -> tuple[np.ndarray, File]:
        """Return the labels of a label file, and the file."""
        folder = self.walked if kind == "random_walker" else self.folder(kind)
        if folder is None or (kind == "masks" and self.spec.masks is None):
            raise DataError(self.root / "dataset.yaml", "a `masks` folder", "none named", "name one, or use --labels scribbles")
        try:
            path, number = self.listing.find(folder, stem)
        except DataError:
            raise DataError(
                folder / f"{stem}.png",
                f"a label file in {kind} for every stem of the split",
                "no such file",
                "draw or export it, or take the stem off the split list",
            ) from None
        labels = read_index(path, number, self.spec.arrays.get("masks" if kind == "masks" else "scribbles"))
        if self.spec.unlabelled != UNLABELLED:
            labels = np.where(labels == self.spec.unlabelled, UNLABELLED, labels).astype(np.uint8)
        return labels, path

    def volume_of(self, stem: str) -> str | None:
        """Return the name of the volume a slice belongs to, its stack if ``volume`` does not say, or None."""
        if self.spec.volume is None:
            stack = split_slice(stem)
            return stack[0] if stack else None
        match = re.match(self.spec.volume, stem)
        return match.group(1) if match else None


def leaves_the_folder(stem: str) -> bool:
    """Say whether a stem points out of the folders it is looked for in."""
    return ".." in Path(stem).parts or Path(stem).is_absolute()


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs twice, or None."""
    return next((name for name, number in Counter(names).items() if number > 1), None)


def open_dataset(root: Path | str) -> Dataset:
    """Open a data set folder; its files may be in shards.

    Raises:
        DataError: no folder, no ``dataset.yaml``, a wrong key in it, or shards that cannot be used.
    """
    root = Path(root)
    path = root / "dataset.yaml"
    try:
        tree: Any = from_yaml(path.read_text(encoding="utf-8"))
        spec = DatasetSpec.model_validate(tree)
    except FileNotFoundError:
        got = "no such folder" if not root.is_dir() else "no dataset.yaml in it"
        raise DataError(
            root, "a folder with a dataset.yaml", got, "check the path; docs/reference/dataset.md shows the file"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(path, "a readable YAML file", str(error), "mend the file") from None
    except (ValidationError, re.error) as error:
        if isinstance(error, ValidationError):
            told = ConfigError.from_pydantic(error, path, DatasetSpec)
            raise DataError(told.where, told.expected, told.got, told.do) from None
        raise DataError(path, "a regular expression in `volume`", str(error), "mend the pattern") from None
    if spec.shards is None:
        return Dataset(root, spec)
    kinds = {"images": spec.images, "scribbles": spec.scribbles, "strokes": spec.strokes, "masks": spec.masks}
    folders = {kind: folder for kind, folder in kinds.items() if folder is not None}
    return Dataset(root, spec, shards=open_shards(root, spec.shards.files, naming(spec.shards, folders)))
