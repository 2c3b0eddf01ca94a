"""The folder that nnU-Net v2 trains from, with its ``ignore`` label."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scribbleseg.atomic import write_text
from scribbleseg.data.formats.contents import About, Add, Annotated, Format, Item, Options, Source
from scribbleseg.data.formats.labels import check_ids, to_ours
from scribbleseg.data.formats.nifti import SUFFIXES, volume_items
from scribbleseg.data.formats.pictures import write_labels, write_png
from scribbleseg.data.formats.safety import files_in, head, load_json, safe_name
from scribbleseg.data.formats.volumes import PATTERN
from scribbleseg.data.images import read_index
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED


class NnUnet(Format):
    """Read and write ``imagesTr``, ``labelsTr`` and ``dataset.json``."""

    title = "nnU-Net v2 folder"
    unlabelled = "the label named `ignore` in dataset.json, the highest; without one every pixel is annotated"
    holds = "imagesTr with labelsTr, imagesTs with labelsTs; the first channel; NIfTI as slices"
    writes = "imagesTr, labelsTr (8-bit PNG; the split test in imagesTs, labelsTs), dataset.json"
    source = "https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/ignore_label.md"

    def recognise(self, path: Path) -> str | None:
        """See the base class."""
        text = head(path / "dataset.json", 1 << 16)
        known = '"labels"' in text and (path / "labelsTr").is_dir()
        return "a folder with labelsTr and a dataset.json that has `labels`" if known else None

    def read(self, path: Path, options: Options) -> Source:
        """See the base class."""
        tree = load_json(path / "dataset.json", "nnU-Net's dataset.json")
        names, ignore = _labels(path / "dataset.json", tree)
        ending = tree.get("file_ending", ".nii.gz")
        if ending not in (*SUFFIXES, ".png", ".tif", ".tiff", ".bmp"):
            raise DataError(path / "dataset.json", "a file_ending of pictures or NIfTI", repr(ending)[:40], "mend the file")
        named = options.names or names

        def items() -> Iterator[Item]:
            for part, split in (("Tr", "train"), ("Ts", "test")):
                for file in files_in(path / f"labels{part}", ending) if (path / f"labels{part}").is_dir() else ():
                    case = safe_name(file.name[: -len(ending)], file)
                    picture = path / f"images{part}" / f"{case}_0000{ending}"
                    found = picture if picture.is_file() else None
                    if ending in SUFFIXES:
                        yield from volume_items(file, case, found, ignore, named, split)
                    else:
                        yield Item(case, lambda f=file, c=case, p=found, s=split: _load(f, c, p, ignore, named, s))

        told = f"{ignore} means not annotated (the label `ignore` of dataset.json)"
        if ignore == UNLABELLED:
            told = "every pixel is annotated (dataset.json has no label `ignore`)"
        return Source(named, told, items(), PATTERN if ending in SUFFIXES else None)

    @contextlib.contextmanager
    def writer(self, out: Path, about: About) -> Iterator[Add]:
        """See the base class. nnU-Net wants class 0 to be ``background``, and as many channels in every picture."""
        names = about.names if about.names[0].lower() == "background" else ("background", *about.names)
        if "ignore" in names or len(set(names)) < len(names):
            raise DataError(about.name, "no class `ignore`, and `background` first", ", ".join(about.names), "rename: --names")
        shift, ignore = len(names) - len(about.names), len(names)
        number = 0
        channels: int | None = None

        def add(image: Annotated) -> None:
            nonlocal number, channels
            part = "Ts" if image.splits == ("test",) else "Tr"
            case = image.stem.replace("/", "__")
            target = out / f"images{part}" / f"{case}_0000.png"
            if target.exists():
                raise DataError(image.stem, "a name of its own without folders", case, "rename the image")
            channels = write_png(image, target, channels)
            labels = np.where(image.labels == UNLABELLED, ignore, image.labels + np.uint8(shift)).astype(np.uint8)
            write_labels(out / f"labels{part}" / f"{case}.png", labels)
            number += part == "Tr"

        yield add
        tree = {
            "channel_names": {str(k): n for k, n in enumerate(("R", "G", "B") if channels == 3 else ("grey",))},
            "labels": {"background": 0, **{name: k for k, name in enumerate(names) if k}, "ignore": ignore},
            "numTraining": number,
            "file_ending": ".png",
        }
        write_text(out / "dataset.json", json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def _labels(where: Path, tree: object) -> tuple[tuple[str, ...], int]:
    """Return class names by id and the value of ``ignore``; 255 where there is none."""
    labels = tree.get("labels") if isinstance(tree, dict) else None
    do = "see nnU-Net's dataset format; regions (lists of values) are not read"
    if not isinstance(labels, dict) or not all(isinstance(v, int) and not isinstance(v, bool) for v in labels.values()):
        raise DataError(where, "`labels` with a whole number a name", repr(labels)[:100], do)
    ignore = labels.pop("ignore", None) if "ignore" in labels else None
    ids = sorted(labels.values())
    if ids != list(range(len(ids))) or not ids or len(ids) > 254 or ignore not in (None, len(ids)):
        got = f"{ids[:10]}, ignore {ignore}"
        raise DataError(where, "ids from 0 without gaps, `ignore` the highest", got, do)
    return tuple(sorted(labels, key=labels.__getitem__)), UNLABELLED if ignore is None else ignore


def _load(file: Path, case: str, picture: Path | None, ignore: int, names: tuple[str, ...], split: str) -> Annotated:
    labels = to_ours(file, read_index(file), ignore)
    check_ids(file, labels, names)
    return Annotated(case, labels, picture, splits=(split,))
