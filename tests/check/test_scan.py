"""One image becomes one small record, whatever the files are like; broken ones become a fault, never an error or a hang."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image

from scribbleseg.check import pool
from scribbleseg.check.pool import scan_all
from scribbleseg.check.run import check
from scribbleseg.check.scan import Fault, Labels, Record, num_strokes, scan_one
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.strokes import strokes_of
from tests.fake.datasets import make_dataset, write_image

few = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def dataset(dataset_root: Path) -> Dataset:
    return open_dataset(dataset_root)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(path: Path, width: int, height: int) -> None:
    """Write a PNG of a few hundred bytes that claims an enormous size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def test_a_record_says_what_is_in_the_files(dataset: Dataset) -> None:
    record = scan_one(dataset, "image_000")
    scribbles = dataset.labels("image_000", "scribbles")
    assert record.size == (48, 64)
    assert isinstance(record.scribbles, Labels)
    assert dict(record.scribbles.pixels) == {int(v): int((scribbles == v).sum()) for v in np.unique(scribbles)}
    assert record.scribbles.strokes == ((0, 1), (1, 1), (2, 1))
    assert isinstance(record.masks, Labels)
    assert record.masks.strokes == ()
    assert (record.known, record.wrong) == (int((scribbles != 255).sum()), 0)
    assert record.fault is None


def test_a_record_is_small(dataset: Dataset) -> None:
    assert len(pickle.dumps(scan_one(dataset, "image_000"))) < 1000


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("share", [0.02, 0.4, 1.0])
def test_strokes_are_counted_as_they_are_defined(classes: int, share: float) -> None:
    rng = np.random.default_rng(classes)
    for size in ((1, 1), (1, 30), (23, 31)):
        labels = np.where(rng.random(size) < share, rng.integers(0, classes, size), 255).astype(np.uint8)
        strokes = [class_id for class_id, _ in strokes_of(labels)]
        assert num_strokes(labels) == tuple((k, strokes.count(k)) for k in sorted(set(strokes)))
    assert num_strokes(np.full((4, 5), 254, np.uint8)) == ((254, 1),)


def test_the_digest_is_of_pixels_and_quickly_of_bytes(tmp_path: Path, dataset_root: Path) -> None:
    dataset = open_dataset(dataset_root)
    with Image.open(dataset_root / "images/image_000.png") as picture:
        picture.save(dataset_root / "images/other.png", compress_level=1)
        picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(dataset_root / "images/flipped.png")
    same, other, flipped = (scan_one(dataset, stem).digest for stem in ("image_000", "other", "flipped"))
    assert same == other != flipped
    assert scan_one(dataset, "image_000", quick=True).digest != scan_one(dataset, "other", quick=True).digest


def test_quick_decodes_no_image_and_says_the_same_of_labels(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scan_one(dataset, "image_000")

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("scribbleseg.data.folder.read_rgb", decode)
    quick = scan_one(dataset, "image_000", quick=True)
    assert (quick.size, quick.scribbles, quick.masks, quick.wrong) == (whole.size, whole.scribbles, whole.masks, whole.wrong)
    assert quick.look is None


@pytest.mark.parametrize("size", [(20000, 20000), (400000, 400000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_a_pixel_is_decoded(size: tuple[int, int], dataset_root: Path) -> None:
    for kind in ("images", "scribbles", "masks"):
        png_bomb(dataset_root / kind / "image_000.png", *size)
    record = scan_one(open_dataset(dataset_root), "image_000")
    for fault in (record.fault, record.scribbles, record.masks):
        assert isinstance(fault, Fault)
        assert "pixels" in fault.expected


def test_a_label_bomb_is_refused_by_its_header(dataset_root: Path) -> None:
    png_bomb(dataset_root / "scribbles/image_000.png", 10000, 10000)  # allowed, were it not for the image's size
    fault = scan_one(open_dataset(dataset_root), "image_000").scribbles
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.got) == ("size", "10000 × 10000 pixels, its image 64 × 48")


def test_who_may_not_read_is_told(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)
    record = scan_one(dataset, "image_000")
    for fault in (record.fault, record.scribbles, record.masks):
        assert isinstance(fault, Fault)
        assert "Permission denied" in fault.got


@pytest.mark.parametrize("stem", ["", ".", "a\0b", "x" * 5000, "image_000/inner", "🖌", "-", "%s%n"])
def test_any_stem_becomes_a_record(stem: str, dataset: Dataset) -> None:
    fault = scan_one(dataset, stem).fault
    assert isinstance(fault, Fault)
    assert fault.kind == "missing"


def test_damage_that_decoders_live_with_is_not_printed(dataset_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = np.zeros((48, 64), np.uint8)
    (dataset_root / "images/image_000.png").unlink()
    path = dataset_root / "images/image_000.tif"
    tifffile.imwrite(path, page)
    path.write_bytes(path.read_bytes()[:-200])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        scan_one(open_dataset(dataset_root), "image_000")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@few
@given(data=st.data())
def test_no_damage_gets_through(suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("damaged")
    make_dataset(root, num_images=1, size=(12, 16), suffix=suffix)
    for kind in ("images", "scribbles"):
        path = next((root / kind).iterdir())
        stored = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(stored[: data.draw(st.integers(0, len(stored)))])
    record = scan_one(open_dataset(root), "image_000")
    assert isinstance(record.scribbles, Labels | Fault)
    assert record.fault is not None or record.digest is not None


@few
@given(text=st.binary(max_size=200))
@example(text=b"[" * 100_000)
@example(text=b"a: &a [x,x]\n" + b"".join(b"b%d: &b%d [*b%d,*b%d]\n" % (k, k, k - 1, k - 1) for k in range(1, 3)))
@example(
    text=b"b0: &b0 [x,x,x,x,x,x,x,x]\n"
    + b"".join(b"b%d: &b%d [%s]\n" % (k, k, b",".join([b"*b%d" % (k - 1)] * 8)) for k in range(1, 12))
    + b"names: *b11\nname: x\nsplits: {}\n"
)
@example(text=b"name: x\nnames: {0: a, 1: b}\nsplits: {train: '\\0'}\n")
@example(text=b'name: x\nnames: {0: a, 1: b}\nsplits: {train: images}\nimages: "a\\0b"\nmasks: "a\\0b"\n')
def test_any_yaml_becomes_findings(text: bytes, dataset_root: Path) -> None:
    (dataset_root / "dataset.yaml").write_bytes(text)
    found = check(dataset_root, jobs=1)
    assert not found.usable
    assert len(found.findings[0].what) < 1000


class TestPool:
    def test_records_come_in_order_whatever_the_number_of_processes(self, tmp_path: Path) -> None:
        dataset = open_dataset(make_dataset(tmp_path / "data", num_images=70, size=(8, 9)))
        (tmp_path / "data/images/image_033.png").write_bytes(b"no picture")
        stems = [f"image_{n:03d}" for n in range(70)]
        alone = list(scan_all(dataset, stems, jobs=1, quick=False))
        assert [record.stem for record in alone] == stems
        assert list(scan_all(dataset, stems, jobs=3, quick=False)) == alone

    def test_large_images_are_looked_at_one_after_the_other(self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool, "SIDE_BY_SIDE_PIXELS", 100)
        stems = ["image_000", "image_001"]
        assert list(scan_all(dataset, stems, jobs=2, quick=False)) == list(scan_all(dataset, stems, jobs=1, quick=False))

    def test_a_file_that_takes_its_process_down_costs_its_record_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = open_dataset(make_dataset(tmp_path / "data", num_images=40, size=(8, 9)))
        monkeypatch.setattr(pool, "scan_many", _dying_many)
        monkeypatch.setattr(pool, "scan_one", _dying)
        records = list(scan_all(dataset, [f"image_{n:03d}" for n in range(40)], jobs=2, quick=False))
        assert [record.stem for record in records if record.fault is not None] == [FATAL]
        fault = records[20].fault
        assert fault is not None
        assert fault.kind == "crash"
        found = check(tmp_path / "data", jobs=2)
        assert found.findings[0].what.startswith("1 image brought its reader down")

    def test_a_process_lists_the_folders_once_for_all_its_tasks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And is sent no names: with 100,000 images either would take longer than looking at 16 of them."""
        dataset = open_dataset(make_dataset(tmp_path / "data", num_images=60, size=(8, 9)))
        small = len(pickle.dumps(dataset))
        dataset.image_path("image_000")
        packed = pickle.dumps(dataset)
        assert len(packed) == small
        looks = []
        monkeypatch.setattr(os, "scandir", lambda path, own=os.scandir: looks.append(path) or own(path))
        for n in range(0, 60, 10):
            assert len(pool._scan(packed, [f"image_{k:03d}" for k in range(n, n + 10)], quick=True)) == 10
        assert len(looks) == 3  # images, scribbles, masks

    def test_closing_early_leaves_no_process(self, tmp_path: Path) -> None:
        import multiprocessing

        dataset = open_dataset(make_dataset(tmp_path / "data", num_images=60, size=(8, 9)))
        scan = scan_all(dataset, [f"image_{n:03d}" for n in range(60)], jobs=2, quick=False)
        next(scan)
        scan.close()
        assert multiprocessing.active_children() == []


FATAL = "image_020"


def _dying(dataset: Dataset, stem: str, **options: bool) -> Record:
    import os

    if stem == FATAL:
        os._exit(1)
    return scan_one(dataset, stem, **options)


def _dying_many(dataset: Dataset, stems: tuple[str, ...], *, quick: bool, most_pixels: int) -> list[Record]:
    return [_dying(dataset, stem, quick=quick) for stem in stems]


def test_labels_larger_than_one_count_are_counted_whole(dataset_root: Path) -> None:
    labels = np.zeros((2100, 2100), np.uint8)  # more than 2^22 pixels
    labels[-1, -1] = 2
    write_image(dataset_root / "scribbles/image_000.png", labels)
    write_image(dataset_root / "images/image_000.png", labels)
    found = scan_one(open_dataset(dataset_root), "image_000", quick=True).scribbles
    assert isinstance(found, Labels)
    assert found.pixels == ((0, 2100 * 2100 - 1), (2, 1))
