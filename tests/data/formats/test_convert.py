"""What a user of ``scribbleseg convert`` relies on: no guess, no half-written folder, one error for each bad image."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scribbleseg.cli import app
from scribbleseg.data.convert import convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.formats import FORMATS, recognise
from scribbleseg.data.formats.contents import Options
from scribbleseg.data.formats.safety import check_depth, safe_name
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.errors import ConfigError, DataError, ScribblesegError, StorageError
from tests.data.formats.test_round_trips import labels_of
from tests.fake.annotations import write_pictures, write_zarr
from tests.fake.datasets import make_dataset, write_image
from tests.fake.scans import scan_dataset

U = 255


def index_folder(root: Path, *maps: list[int]) -> Path:
    """A folder of label rows, each repeated eight times, with pictures."""
    for number, row in enumerate(maps):
        write_image(root / f"labels/i{number}.png", np.tile(np.array(row, np.uint8), (8, 1)))
        write_pictures(root / "images", [f"i{number}"], (8, len(row)))
    return root


class TestTheTrap:
    @pytest.mark.parametrize("row", [[0, 0, 0, 1, 2], [0, 255, 255, 0], [1, 1, 255, 255], [0, 0, 0, 0], [1, 2, 3, 4]])
    def test_a_bare_index_png_without_evidence_is_refused(self, row, tmp_path):
        with pytest.raises(DataError) as error:
            convert(index_folder(tmp_path / "in", row), tmp_path / "out")
        assert "--unlabelled 0" in error.value.do
        assert "--unlabelled 255" in error.value.do
        assert not (tmp_path / "out").exists()

    def test_255_beside_two_other_values_is_evidence(self, tmp_path):
        told: list[str] = []
        convert(index_folder(tmp_path / "in", [0, 255, 1], [0, 255, 255]), tmp_path / "out", say=told.append)
        assert told[1] == "255 means not annotated (it occurs beside the ids 0, 1)"
        np.testing.assert_array_equal(labels_of(tmp_path / "out")["i0"][0], [0, 255, 1])

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("0", [U, U, U, 0, 1]), ("255", [0, 0, 0, 1, 2]), ("2", [0, 0, 0, 1, U]), ("1", [0, 0, 0, U, 1])],
    )
    def test_the_user_decides(self, value, expected, tmp_path):
        told: list[str] = []
        root = index_folder(tmp_path / "in", [0, 0, 0, 1, 2])
        convert(root, tmp_path / "out", Options(unlabelled=value, names=("a", "b", "c")), say=told.append)
        np.testing.assert_array_equal(labels_of(tmp_path / "out")["i0"][0], expected)
        assert told[1].startswith(f"{value} means not annotated (you said so)")

    def test_with_names_only_a_sample_is_looked_at_and_each_file_still_checked(self, tmp_path):
        root = index_folder(tmp_path / "in", [0, 255, 1], [0, 7, 255])
        summary = convert(root, tmp_path / "out", Options(names=("a", "b")))
        assert summary.converted == 1
        assert "id 7" in summary.failed[0][1].got

    @pytest.mark.parametrize("name", [n for n, each in FORMATS.items() if n not in ("index", "nifti", "colour")])
    def test_every_other_format_states_its_rule(self, name):
        assert FORMATS[name].unlabelled
        assert "you must say" not in FORMATS[name].unlabelled


class TestTheOutcome:
    def test_it_can_be_trained_from_at_once(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=4)
        convert(root, tmp_path / "coco", target="coco")
        convert(tmp_path / "coco", tmp_path / "out")
        dataset = open_dataset(tmp_path / "out")
        counts = check_training_labels(dataset, dataset.stems("train"), "scribbles").pixels
        assert (counts > 0).all()
        assert dataset.rgb("image_000").shape == (48, 64, 3)

    def test_splits_masks_and_volume_are_kept(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=4, num_volumes=2)
        convert(root, tmp_path / "out")
        before, after = open_dataset(root), open_dataset(tmp_path / "out")
        assert {s: after.stems(s) for s in after.spec.splits} == {s: before.stems(s) for s in before.spec.splits}
        assert after.volume_of("volume01_001") == "volume01"
        np.testing.assert_array_equal(after.labels("volume01_001", "masks"), before.labels("volume01_001", "masks"))

    def test_pictures_are_copies(self, tmp_path):
        root = make_dataset(tmp_path / "data")
        convert(root, tmp_path / "out")
        copy = tmp_path / "out/images/image_000.png"
        assert copy.read_bytes() == (root / "images/image_000.png").read_bytes()
        assert not copy.is_symlink()
        assert copy.stat().st_ino != (root / "images/image_000.png").stat().st_ino

    def test_a_picture_that_is_not_trained_from_becomes_png(self, tmp_path):
        root = index_folder(tmp_path / "in", [0, 255, 1])
        Image.open(root / "images/i0.png").save(root / "images/i0.bmp")
        (root / "images/i0.png").unlink()
        convert(root, tmp_path / "out")
        assert [p.name for p in (tmp_path / "out/images").iterdir()] == ["i0.png"]

    def test_nothing_is_overwritten(self, tmp_path):
        root = make_dataset(tmp_path / "data")
        (tmp_path / "out").mkdir()
        with pytest.raises(StorageError, match="nothing is ever overwritten"):
            convert(root, tmp_path / "out")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(StorageError):
            convert(root, tmp_path / "link")

    def test_an_interrupt_leaves_nothing(self, tmp_path):
        root = make_dataset(tmp_path / "data")

        def interrupt(done: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(root, tmp_path / "out", progress=interrupt)
        assert [p.name for p in tmp_path.iterdir()] == ["data"]

    def test_one_bad_image_does_not_stop_the_others(self, tmp_path):
        root = index_folder(tmp_path / "in", [0, 255, 1], [0, 255, 1], [0, 255, 1])
        (root / "labels/i1.png").write_bytes((root / "labels/i1.png").read_bytes()[:40])
        (root / "images/i2.png").unlink()
        summary = convert(root, tmp_path / "out")
        assert summary.converted == 1
        assert [stem for stem, _ in summary.failed] == ["i1", "i2"]
        assert "--images" in summary.failed[1][1].do
        assert (tmp_path / "out/failed.txt").read_text().count("to do:") == 2

    def test_two_images_of_one_name_are_told(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=3)
        convert(root, tmp_path / "coco", target="coco")
        path = tmp_path / "coco/annotations.json"
        tree = json.loads(path.read_text())
        tree["images"].append(tree["images"][0] | {"id": 99})
        path.write_text(json.dumps(tree))
        summary = convert(tmp_path / "coco", tmp_path / "out")
        assert summary.converted == 3
        assert summary.failed[0][1].got == "its name a second time"


class TestTheCommand:
    def run(self, *words: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["convert", *map(str, words)])
        return result.exit_code, result.output

    def test_summary_and_exit_code(self, tmp_path):
        root = index_folder(tmp_path / "in", [0, 255, 255, 1])
        code, text = self.run(root, tmp_path / "out", "--names", "soil,leaf")
        assert code == 0
        assert "1 images converted, 0 left out" in text
        assert "soil" in text
        assert "25.000% of the pixels, in 1 images" in text

    def test_exit_code_1_when_some_were_left_out(self, tmp_path):
        root = index_folder(tmp_path / "in", [0, 255, 1], [0, 255, 1])
        (root / "labels/i1.png").write_bytes(b"nothing")
        code, text = self.run(root, tmp_path / "out")
        assert code == 1
        assert "1 images converted, 1 left out" in text

    def test_an_error_when_nothing_could_be_converted(self, tmp_path):
        result = CliRunner().invoke(app, ["convert", str(tmp_path / "absent"), str(tmp_path / "out")])
        assert isinstance(result.exception, ScribblesegError)  # which main() turns into exit code 2

    def test_the_list_names_every_format(self):
        code, text = self.run("--list")
        assert code == 0
        assert all(name in text for name in FORMATS)

    @pytest.mark.parametrize("option", ["--from", "--to"])
    def test_a_misspelt_format(self, option, tmp_path):
        result = CliRunner().invoke(app, ["convert", str(tmp_path), str(tmp_path / "out"), option, "label-studo"])
        assert "did you mean 'label-studio'?" in str(result.exception)

    @pytest.mark.parametrize("words", [("--width", "0"), ("--names", "a,a"), ("--names", "")])
    def test_options_that_make_no_sense(self, words, tmp_path):
        result = CliRunner().invoke(app, ["convert", str(tmp_path), str(tmp_path / "out"), *words])
        assert isinstance(result.exception, ConfigError)


LIBRARIES = {
    "nifti": "nibabel",
    "cvat": "defusedxml",
    "coco": "pycocotools",
    "label-studio": "ijson",
    "scribblesup": "defusedxml",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_names_the_extra(name, tmp_path, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == LIBRARIES[name]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    for file in ("a.nii", "a.xml", "a.json"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / file).write_text("[]")
    with pytest.raises(ConfigError) as error:
        convert(tmp_path / "in", tmp_path / "out", source=name)
    assert error.value.do == 'pip install "scribbleseg[formats]"'


def test_several_formats_are_asked_about(tmp_path):
    index_folder(tmp_path / "in", [0, 255, 1])
    write_zarr(tmp_path / "in/a.zarr", np.ones((8, 3), np.uint8))
    assert recognise(tmp_path / "in")[0] == "napari"  # a bare index PNG is the last guess
    (tmp_path / "in/p.seg_proj").write_text("{}")
    with pytest.raises(DataError, match="--from napari or --from rootpainter"):
        recognise(tmp_path / "in")


class TestHostileFiles:
    @pytest.mark.parametrize(
        "name", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a\\b", "a\nb", " a", "x" * 300, None, 3, "a/./b", "a\x00"]
    )
    def test_names_that_leave_the_folder(self, name):
        with pytest.raises(DataError):
            safe_name(name, "file")

    @pytest.mark.parametrize("kind", ["coco", "cvat"])
    def test_nothing_is_written_outside(self, kind, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=3)
        convert(root, tmp_path / "made", target=kind)
        file = next(p for p in (tmp_path / "made").iterdir() if p.is_file())
        file.write_text(file.read_text().replace("image_001.png", "../../image_001.png").replace("image_002.png", "/tmp/x.png"))
        summary = convert(tmp_path / "made", tmp_path / "deep/out")
        assert summary.converted == 1
        assert len(summary.failed) == 2
        assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "deep", "made"]

    def test_a_png_bomb(self, tmp_path):
        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        root = index_folder(tmp_path / "in", [0, 255, 1])
        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        (root / "labels/bomb.png").write_bytes(png)
        summary = convert(root, tmp_path / "out")
        assert (summary.converted, len(summary.failed)) == (1, 1)

    @pytest.mark.parametrize("kind", ["cvat", "scribblesup"])
    def test_xml_entities(self, kind, tmp_path):
        entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
            f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(12)
        )
        root = {"cvat": "annotations", "scribblesup": "annotation"}[kind]
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.xml").write_text(
            f"<!DOCTYPE x [{entities}]><{root}><image>&m;</image><polygon>&m;</polygon></{root}>"
        )
        with pytest.raises(DataError):
            convert(tmp_path / "in", tmp_path / "out", source=kind)

    @pytest.mark.parametrize("runs", ["10, 999999999", "5", "-3, 9", "1e9", ",".join(["1"] * 1000), "", "99999999999999999999"])
    def test_runs_that_overrun(self, runs, tmp_path):
        mask = f'<mask label="a" rle="{runs}" left="0" top="0" width="4" height="4"/>'
        sound = '<mask label="b" rle="0, 16" left="0" top="0" width="4" height="4"/>'
        images = "".join(f'<image name="{n}.png" width="8" height="8">{m}</image>' for n, m in (("bad", mask), ("good", sound)))
        (tmp_path / "a.xml").write_text(f"<annotations>{images}</annotations>")
        write_pictures(tmp_path / "images", ["bad", "good"], (8, 8))
        summary = convert(tmp_path / "a.xml", tmp_path / "out", Options(names=("a", "b")))
        assert [stem for stem, _ in summary.failed] == ["bad.png"]
        assert summary.converted == 1

    @pytest.mark.parametrize("extent", [10**9, -5, 0, "many", None])
    def test_absurd_sizes(self, extent, tmp_path):
        rle = {"size": [extent, extent], "counts": [1]}
        tree = {
            "images": [{"id": 1, "file_name": "a.png", "width": extent, "height": extent}],
            "annotations": [{"image_id": 1, "category_id": 1, "segmentation": rle}],
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        }
        (tmp_path / "a.json").write_text(json.dumps(tree))
        with pytest.raises(DataError):
            convert(tmp_path / "a.json", tmp_path / "out", source="coco")

    def test_a_million_points(self, tmp_path):
        """Zig-zags over the whole picture: what a polygon costs must not be points times rows."""
        angle = np.linspace(0, 2 * np.pi, 1_000_000)
        points = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], 1).round(4).tolist()
        value = {"points": points, "polygonlabels": ["disc"]}
        region = {"type": "polygonlabels", "value": value, "original_width": 200, "original_height": 100}
        (tmp_path / "a.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}]))
        write_pictures(tmp_path / "images", ["a"], (100, 200))
        convert(tmp_path / "a.json", tmp_path / "out", Options(names=("ground", "disc")))
        share = (labels_of(tmp_path / "out")["a"] == 1).mean()
        assert share == pytest.approx(np.pi * 0.4**2, abs=0.005)

    def test_depth_is_measured_outside_strings(self, tmp_path):
        file = tmp_path / "a.json"
        file.write_text(json.dumps([{"[" * 100: '"\\"' + "{" * 100, "b": "\\\\"}] * 40_000))
        check_depth(file, 2)
        with pytest.raises(DataError, match="nested"):
            check_depth(file, 1)

    def test_deep_nesting(self, tmp_path):
        for name, text in (
            ("label-studio", '[{"a\\\\": ' + "[" * 200_000),
            ("coco", '{"images":' + "[" * 200_000),
            ("qupath", "[" * 200_000),
        ):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.json").write_text(text)
            with pytest.raises(DataError):
                convert(tmp_path / name, tmp_path / "out", source=name)
        deep = "<annotations>" + "<image>" * 100_000
        (tmp_path / "a.xml").write_text(deep)
        with pytest.raises(DataError):
            convert(tmp_path / "a.xml", tmp_path / "out", Options(names=("a", "b")), source="cvat")

    def test_arrays_of_absurd_shape(self, tmp_path):
        write_zarr(tmp_path / "z/a.zarr", np.ones((4, 4), np.uint8))
        meta = tmp_path / "z/a.zarr/zarr.json"
        tree = json.loads(meta.read_text())
        tree["shape"] = tree["chunk_grid"]["configuration"]["chunk_shape"] = [10**7, 10**7]
        meta.write_text(json.dumps(tree))
        raw = bytearray(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes())
        struct.pack_into("<8h", raw, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
        (tmp_path / "n").mkdir()
        (tmp_path / "n/a.nii").write_bytes(bytes(raw))
        (tmp_path / "h").mkdir()
        with h5py.File(tmp_path / "h/a_Labels.h5", "w") as file:
            file.create_dataset("exported_data", shape=(10**6, 10**6, 100), dtype=np.uint8, chunks=(100, 100, 1))
        for folder, name in (("z", "napari"), ("n", "nifti"), ("h", "ilastik")):
            options = Options(names=("a", "b"), unlabelled="0")
            with pytest.raises(DataError):
                convert(tmp_path / folder, tmp_path / "out", options, source=name)

    def test_an_export_that_breaks_off_keeps_what_came_before(self, tmp_path):
        root = make_dataset(tmp_path / "data", num_images=4)
        convert(root, tmp_path / "made", target="label-studio")
        file = tmp_path / "made/label-studio.json"
        file.write_text(file.read_text()[:-400])
        summary = convert(tmp_path / "made", tmp_path / "out")
        assert summary.converted == 3
        assert len(summary.failed) == 1


class TestOurOwnFolder:
    def test_slices_of_stacks_become_pictures_of_their_own(self, tmp_path):
        source = open_dataset(scan_dataset(tmp_path / "scans"))
        convert(source.root, tmp_path / "out")
        made = open_dataset(tmp_path / "out")
        for split in ("train", "val", "test"):
            assert made.stems(split) == source.stems(split)
        for stem in made.stems("train"):
            assert np.abs(made.rgb(stem) - source.rgb(stem)).max() <= 0.5 / 255 + 1e-6
            for kind in ("scribbles", "masks"):
                assert np.array_equal(made.labels(stem, kind), source.labels(stem, kind))
            assert made.volume_of(stem) == source.volume_of(stem) == "scan0"

    def test_masks_with_another_value_for_unknown_have_255_afterwards(self, tmp_path):
        source = open_dataset(make_dataset(tmp_path / "data", unlabelled=7))
        stem = source.stems("train")[0]
        mask = source.labels(stem, "masks")
        mask[:4] = 7
        write_image(source.root / "masks" / f"{stem}.png", mask)
        convert(source.root, tmp_path / "out")
        made = open_dataset(tmp_path / "out")
        assert made.spec.unlabelled == 255
        assert np.array_equal(made.labels(stem, "masks"), np.where(mask == 7, 255, mask))
