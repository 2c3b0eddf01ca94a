"""Every reader on damaged files: a result or one of our errors, never anything else."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from scribbleseg.data.convert import convert
from scribbleseg.data.formats import FORMATS
from scribbleseg.data.formats.contents import Options
from scribbleseg.errors import ScribblesegError
from tests.data.formats.test_round_trips import LINES, draw_lines
from tests.fake.annotations import write_ilastik_project, write_nifti, write_pictures, write_scribblesup, write_zarr
from tests.fake.datasets import make_dataset

NAMES = ("background", "leaf")


def drawn(size: tuple[int, ...] = (14, 17)) -> np.ndarray:
    """Labels with 0 where nobody drew."""
    labels = np.zeros(size, np.uint8)
    labels[..., 3:5, 2:9] = 1
    labels[..., 8:10, 4:15] = 2
    return labels


def ilastik_project(root: Path) -> None:
    write_ilastik_project(root / "project.ilp", {"a.png": drawn(), "b.png": drawn()}, list(NAMES), block=8)


def scribblesup(root: Path) -> None:
    for stem in ("a", "b"):
        write_scribblesup(root / f"{stem}.xml", (14, 17), [("background", [(2, 3), (9, 4)]), ("leaf", [(4, 8), (14, 9)])])


def nifti(root: Path) -> None:
    write_nifti(root / "a_scribble.nii", drawn((3, 14, 17)).T)
    write_nifti(root / "a.nii", np.arange(3 * 14 * 17, dtype=np.int16).reshape(17, 14, 3))
    write_nifti(root / "b_scribble.nii", drawn().T[..., None])
    write_nifti(root / "b.nii", np.arange(14 * 17, dtype=np.float32).reshape(17, 14, 1))


def zarr_labels(root: Path) -> None:
    write_zarr(root / "a.zarr", drawn(), (8, 8))
    write_zarr(root / "b.zarr", drawn(), (8, 8))


def label_studio(root: Path) -> None:
    value = {"points": [[10.0, 10.0], [60.5, 20.0], [30.0, 70.0]], "polygonlabels": ["leaf"]}
    point = {"x": 50.0, "y": 12.5, "width": 0.7, "keypointlabels": ["background"]}
    size = {"original_width": 17, "original_height": 14}
    regions = [{"type": "polygonlabels", "value": value, **size}, {"type": "keypointlabels", "value": point, **size}]
    tasks = [{"data": {"image": f"/data/upload/1/0a1b2c3d-{s}.png"}, "annotations": [{"result": regions}]} for s in "ab"]
    (root / "export.json").write_text(json.dumps(tasks))


def cvat(root: Path) -> None:
    shapes = '<polyline label="leaf" points="1.5,2.0;9.0,9.5" z_order="1"/><points label="background" points="3,4;5,6"/>'
    shapes += '<polygon label="leaf" points="1,1;6,1;6,5" z_order="0"/>'
    images = "".join(f'<image id="0" name="{s}.png" width="17" height="14">{shapes}</image>' for s in "ab")
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")


def coco(root: Path) -> None:
    images = [{"id": k, "file_name": f"{s}.png", "width": 17, "height": 14} for k, s in enumerate("ab")]
    shapes = [[[1, 1, 6, 1, 6, 5]], {"size": [14, 17], "counts": [30, 40, 168]}]
    annotations = [{"id": k, "image_id": k, "category_id": k + 1, "segmentation": s} for k, s in enumerate(shapes)]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    (root / "x.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


MADE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "ilastik project": ("ilastik", ilastik_project),
    "scribblesup lines": ("scribblesup", scribblesup),
    "nifti volumes": ("nifti", nifti),
    "zarr": ("napari", zarr_labels),
    "label studio shapes": ("label-studio", label_studio),
    "cvat shapes": ("cvat", cvat),
    "coco shapes": ("coco", coco),
}
SAMPLES = {**{name: name for name, each in FORMATS.items() if each.writes}, **{name: pair[0] for name, pair in MADE.items()}}


@functools.cache
def sample(name: str) -> Path:
    """A sound source of a format, made once."""
    root = Path(tempfile.mkdtemp(prefix="scribbleseg-test-"))
    if name in MADE:
        MADE[name][1](root)
        write_pictures(root / "images", ["a", "b"], (14, 17))
        return root
    data = make_dataset(root / "data", num_images=3, size=(14, 17), num_classes=2)
    if name in LINES:
        draw_lines(data, (14, 17), 2, **LINES[name])
    convert(data, root / "made", target=name)
    shutil.rmtree(data)
    return root / "made"


def test_every_reader_is_tried():
    assert set(SAMPLES.values()) == set(FORMATS)


edits = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "drop", "repeat", "insert"]), st.floats(0, 1), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Change some bytes."""
    for kind, place, new in changes:
        at = int(place * len(data))
        if kind == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + len(new) :]
        elif kind == "insert":
            data = data[:at] + new + data[at:]
        else:
            data = data[:at] + data[at : at + 20] * len(new) + data[at:]
    return data


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_is_sound(name, tmp_path):
    summary = convert(sample(name), tmp_path / "out", Options(names=NAMES, unlabelled=value_of(name)), source=SAMPLES[name])
    assert summary.converted >= 2
    assert not summary.failed


def value_of(name: str) -> str | None:
    return "0" if name == "nifti volumes" else None


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_damaged_file_gives_a_result_or_our_error(name, named, data):
    files = sorted(p for p in sample(name).rglob("*") if p.is_file() and "images" not in p.parts)
    file = data.draw(st.sampled_from(files))
    changes = data.draw(edits)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "in"
        shutil.copytree(sample(name), copy)
        target = copy / file.relative_to(sample(name))
        target.write_bytes(damaged(target.read_bytes(), changes))
        options = Options(names=NAMES if named else None, unlabelled=value_of(name))
        try:
            summary = convert(copy, Path(folder) / "out", options, source=SAMPLES[name])
        except ScribblesegError:
            assert sorted(p.name for p in Path(folder).iterdir()) == ["in"]
        else:
            assert summary.converted
            assert (Path(folder) / "out" / "dataset.yaml").is_file()
