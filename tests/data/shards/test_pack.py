"""Packing a data set, and that the shards are used as the folder is: same bytes, same tensors, same findings, same scores."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
import yaml

from scribbleseg.check.run import check
from scribbleseg.config import parse_config
from scribbleseg.data.convert import convert
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.loader import load_sample, training_loader
from scribbleseg.data.shards.files import OPEN_SHARDS
from scribbleseg.data.shards.pack import shard_dataset
from scribbleseg.data.simulate.run import Simulation, simulate_dataset
from scribbleseg.errors import ConfigError, DataError, ScribblesegError, StorageError
from scribbleseg.evaluate import evaluate
from scribbleseg.scores import summary
from tests.fake.datasets import make_dataset, write_image, write_lines
from tests.fake.shards import STEMS, make_varied


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_varied(tmp_path / "plain")


@pytest.fixture
def sharded(plain: Path, tmp_path: Path) -> Path:
    shard_dataset(plain, tmp_path / "sharded")
    return tmp_path / "sharded"


def samples(root: Path) -> list[tuple[str, torch.Tensor, torch.Tensor, np.ndarray]]:
    dataset = open_dataset(root)
    found = []
    for stem in (*dataset.stems("train"), *dataset.stems("val")):
        sample = load_sample(dataset, stem, "scribbles")
        assert dataset.size(stem) == sample.labels.shape
        found.append((stem, sample.image, sample.labels, dataset.labels(stem, "masks")))
    return found


def test_every_file_is_there_byte_for_byte(plain: Path, sharded: Path) -> None:
    shards = open_dataset(sharded).shards
    files = [path for kind in ("images", "scribbles", "strokes", "masks") for path in (plain / kind).rglob("*.*")]
    assert len(shards) == len(files) - 1, "but for notes.txt, which nothing reads"
    for path in files:
        if path.suffix != ".txt":
            assert shards.folder(path.relative_to(plain).as_posix()).read_bytes() == path.read_bytes()
    for name in ("lists/train.txt", "val.txt"):
        assert (sharded / name).read_bytes() == (plain / name).read_bytes()


def test_samples_labels_and_sizes_are_those_of_the_folder(plain: Path, sharded: Path) -> None:
    ours = samples(sharded)
    assert [stem for stem, *_ in ours] == [*STEMS, "scan@000", "scan@001"]
    for (_, *one), (_, *other) in zip(samples(plain), ours, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_run_are_those_of_the_folder(plain: Path, sharded: Path, workers: int) -> None:
    def batches(root: Path) -> list[object]:
        tree = {"data": {"root": root, "crop_px": 32, "num_workers": workers}, "training": {"max_steps": 5, "batch_size": 3}}
        return list(training_loader(open_dataset(root), parse_config(tree), lambda: 1))

    for one, other in zip(batches(plain), batches(sharded), strict=True):
        assert one.stems == other.stems
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.labels, other.labels)


def test_strokes_can_be_drawn_at_another_width(plain: Path, sharded: Path) -> None:
    thin, thick = (Dataset(d.root, d.spec, width_px=w, shards=d.shards) for d in [open_dataset(sharded)] for w in (1, 9))
    assert (thin.labels("lines", "scribbles") < 255).sum() < (thick.labels("lines", "scribbles") < 255).sum()
    assert np.array_equal(thin.labels("lines", "scribbles"), Dataset(plain, thin.spec, width_px=1).labels("lines", "scribbles"))


def test_a_folder_gives_the_same_bytes_whenever_it_is_packed(plain: Path, sharded: Path, tmp_path: Path) -> None:
    other = shutil.copytree(plain, tmp_path / "elsewhere", copy_function=shutil.copyfile)  # other times
    shard_dataset(other, tmp_path / "again")
    assert {p.name for p in (tmp_path / "again").iterdir()} == {p.name for p in sharded.iterdir()}
    for path in sharded.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(sharded)).read_bytes()


def test_a_shard_is_closed_when_it_is_full_and_belongs_to_one_split(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=8)
    rng = np.random.default_rng(0)
    for path in (root / "images").iterdir():
        write_image(path, rng.integers(0, 256, (400, 400, 3), np.uint8))  # half a megabyte
    told: list[tuple[int, int]] = []
    packed = shard_dataset(root, tmp_path / "out", size_mb=1, progress=lambda *numbers: told.append(numbers))
    names = [f"{split}-{n:06d}.tar" for split, n in (("test", 0), ("train", 0), ("train", 1), ("val", 0))]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == names
    assert (packed.images, packed.files, packed.shards) == (8, 24, 4)
    assert told == [(n, 8) for n in range(1, 9)]
    stems = []
    for name in names[1:3]:
        with tarfile.open(tmp_path / "out" / name) as tar:
            keys = [member.name.partition(".")[0] for member in tar]
            stems += keys[::3]
            assert all(len(set(keys[n : n + 3])) == 1 for n in range(0, len(keys), 3)), "a stem's files are neighbours"
    assert stems == list(open_dataset(root).stems("train"))


def test_one_split_alone(plain: Path, tmp_path: Path) -> None:
    packed = shard_dataset(plain, tmp_path / "out", splits=["val"])
    assert (packed.images, packed.files) == (1, 4), "the stack, its strokes, and two slices of masks"
    dataset = open_dataset(tmp_path / "out")
    assert set(dataset.spec.splits) == {"val"}
    assert len(dataset.stems("val")) == 2
    assert not dataset.folder("images").walk().__next__()[1].count("plain.png")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its files open
def test_webdataset_reads_the_shards(plain: Path, sharded: Path) -> None:
    shards = sorted(str(path) for path in sharded.glob("train-*.tar"))
    found = {sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)}
    assert set(found) == {stem.replace("%", "%25").replace(".", "%2E") for stem in STEMS}
    assert found["plain"]["image.png"] == (plain / "images" / "plain.png").read_bytes()
    assert found["two%2Edots"]["scribble.png"] == (plain / "scribbles" / "two.dots.png").read_bytes()
    assert found["lines"]["strokes.json"] == (plain / "strokes" / "lines.json").read_bytes()
    assert found["folder/below"]["mask.png"] == (plain / "masks" / "folder" / "below.png").read_bytes()


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("jobs", [1, 2])
def test_check_finds_what_it_finds_in_the_folder(plain: Path, tmp_path: Path, quick: bool, jobs: int) -> None:
    (plain / "images" / "notes.txt").unlink()
    (plain / "images" / "plain.png").write_bytes((plain / "images" / "plain.png").read_bytes()[:200])
    (plain / "scribbles" / "two.dots.png").unlink()
    shutil.copy(plain / "scribbles" / "50%2E.png", plain / "scribbles" / "50%2E.tif")  # twice, and one no TIFF
    write_image(plain / "masks" / "lines.png", np.zeros((9, 9), np.uint8))
    with (plain / "lists" / "train.txt").open("a", encoding="utf-8") as file:
        file.write("nowhere\nfolder/below\n../out\n")
    shard_dataset(plain, tmp_path / "out")
    ours, theirs = (check(root, quick=quick, jobs=jobs) for root in (tmp_path / "out", plain))
    assert len(theirs.findings) >= 6
    assert ours.verdict.level == theirs.verdict.level

    def told(findings: object) -> list[object]:
        return [
            (f.rule, f.severity, f.what, f.do, [(c.where.partition(" (in ")[0], c.got, c.stem) for c in f.cases])
            for f in findings
        ]

    assert told(ours.findings) == told(theirs.findings)
    assert "(in train-000000.tar)" in str(ours.findings), "and the shard of a broken file is named"


def test_evaluate_gives_the_same_scores(plain: Path, sharded: Path, tmp_path: Path) -> None:
    for n, mask in enumerate((0, 1)):
        write_image(tmp_path / "predicted" / f"scan@{n:03d}.png", np.full((48, 64), mask, np.uint8))
    ours, theirs = (summary(evaluate(tmp_path / "predicted", root, split="val")) for root in (sharded, plain))
    assert ours == theirs


def test_what_is_sent_to_a_worker_is_small_and_opens_the_same(sharded: Path) -> None:
    dataset = open_dataset(sharded)
    sent = pickle.dumps(dataset)
    assert len(sent) < 5000
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        far = pool.submit(dataset.rgb, "two.dots").result()
    assert np.array_equal(far, dataset.rgb("two.dots"))


def test_a_worker_is_not_given_shards_that_have_changed(plain: Path, sharded: Path) -> None:
    first = pickle.loads(pickle.dumps(open_dataset(sharded)))
    write_image(plain / "images" / "plain.png", np.zeros((48, 64, 3), np.uint8))
    shutil.rmtree(sharded)
    shard_dataset(plain, sharded)
    second = pickle.loads(pickle.dumps(open_dataset(sharded)))
    assert first.shards is not second.shards
    assert second.rgb("plain").max() == 0


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell which files are open")
def test_few_files_are_open_however_many_shards_there_are(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", num_images=3 * OPEN_SHARDS, size=(8, 12))
    stems = [path.stem for path in (root / "images").iterdir()]
    tree = yaml.safe_load((root / "dataset.yaml").read_text())
    tree["splits"] = {f"train{n:03d}": f"{n}.txt" for n in range(len(stems))}
    for n, stem in enumerate(stems):
        write_lines(root / f"{n}.txt", [stem])
    (root / "dataset.yaml").write_text(yaml.safe_dump(tree))
    shard_dataset(root, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    before = num_open()
    held = [dataset.image_source(stem).path.open() for stem in stems]
    assert num_open() == before + len(stems), "files that are being read stay open"
    assert all(file.read(4) == b"\x89PNG" for file in held)
    del held
    for stem in 2 * stems:
        dataset.rgb(stem)
    assert num_open() <= before + OPEN_SHARDS
    del dataset
    assert num_open() == before


def test_lists_and_folders_elsewhere_come_inside(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    made = simulate_dataset(root, Simulation("straight", 0, 3.0, 1, 1.0, 0.0, 0.0), out=tmp_path / "made" / "deep")
    shard_dataset(made, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert (dataset.spec.images, dataset.spec.splits["train"]) == ("images", "train.txt")
    for stem in dataset.stems("train"):
        assert np.array_equal(dataset.labels(stem, "scribbles"), open_dataset(made).labels(stem, "scribbles"))
        assert np.array_equal(dataset.rgb(stem), open_dataset(root).rgb(stem))


def test_a_folder_of_two_kinds_is_packed_once(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", spec={"scribbles": "masks"})
    assert shard_dataset(root, tmp_path / "out").files == 8
    dataset = open_dataset(tmp_path / "out")
    stem = dataset.stems("train")[0]
    assert np.array_equal(dataset.labels(stem, "scribbles"), dataset.labels(stem, "masks"))
    assert (dataset.labels(stem, "masks") < 255).all()


class TestWhatCannotBePacked:
    def refused(self, root: Path, out: Path, **options: object) -> ScribblesegError:
        before = sorted(out.parent.iterdir())
        with pytest.raises(ScribblesegError) as told:
            shard_dataset(root, out, **options)
        assert sorted(out.parent.iterdir()) == before, "nothing is left behind"
        return told.value

    def test_volumes_stay_plain(self, plain: Path, tmp_path: Path) -> None:
        (plain / "images" / "scan2.nii.gz").write_bytes(b"any")
        error = self.refused(plain, tmp_path / "out")
        assert isinstance(error, DataError)
        assert "scan2.nii.gz" in error.where
        assert "plain folder" in error.do

    def test_a_place_that_is_taken(self, plain: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        assert isinstance(self.refused(plain, tmp_path / "out"), StorageError)

    def test_a_split_that_is_not_there(self, plain: Path, tmp_path: Path) -> None:
        error = self.refused(plain, tmp_path / "out", splits=["tran"])
        assert isinstance(error, ConfigError)
        assert "train" in error.do

    def test_a_list_that_is_not_there(self, plain: Path, tmp_path: Path) -> None:
        (plain / "val.txt").unlink()
        assert "val.txt" in self.refused(plain, tmp_path / "out").where

    def test_nothing_to_pack(self, plain: Path, tmp_path: Path) -> None:
        for kind in ("images", "scribbles", "strokes", "masks"):
            shutil.rmtree(plain / kind)
        assert "images" in self.refused(plain, tmp_path / "out").where

    def test_names_that_cannot_be_told_apart_again(self, plain: Path, tmp_path: Path) -> None:
        (plain / "images" / "line\nbreak.png").write_bytes(b"any")
        assert "printed" in self.refused(plain, tmp_path / "out").expected

    def test_a_file_that_cannot_be_read_is_named(self, plain: Path, tmp_path: Path) -> None:
        (plain / "images" / "gone.png").symlink_to(plain / "nowhere.png")
        error = self.refused(plain, tmp_path / "out")
        assert isinstance(error, DataError)
        assert error.where.endswith("gone.png")

    def test_a_file_that_shrinks_meanwhile(self, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fstat

        def larger(descriptor: int) -> object:
            found = real(descriptor)
            return os.stat_result((*found[:6], found.st_size + 1, *found[7:10]))

        monkeypatch.setattr("scribbleseg.data.shards.pack.os.fstat", larger)
        assert "shorter" in self.refused(plain, tmp_path / "out").got

    def test_a_full_disk(self, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*words: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tarfile.TarFile, "addfile", full)
        error = self.refused(plain, tmp_path / "out")
        assert isinstance(error, StorageError)
        assert "free some space" in error.do

    def test_shards_once_more_and_what_needs_a_plain_folder(self, sharded: Path, tmp_path: Path) -> None:
        assert "plain folder" in self.refused(sharded, tmp_path / "out").expected
        with pytest.raises(DataError, match="a plain folder"):
            simulate_dataset(sharded, Simulation("straight", 0, 3.0, 1, 1.0, 0.0, 0.0))
        with pytest.raises(DataError, match="a plain folder"):
            convert(sharded, tmp_path / "out")


def test_the_command_line(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: object) -> None:
    from scribbleseg.cli import main

    for words, code in ((["shard", plain, tmp_path / "out"], 0), (["shard", plain, tmp_path / "out"], 2)):
        monkeypatch.setattr(sys, "argv", ["scribbleseg", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code or 0) == code
    told = capsys.readouterr()
    assert "9 images, 26 files in 3 shards" in told.out
    assert "nothing here reads them: 1\n" in told.out
    assert "a new folder" in told.err


def test_a_file_of_a_shard_behaves_like_a_file(sharded: Path) -> None:
    dataset = open_dataset(sharded)
    file = dataset.image_source("plain").path
    stored = file.read_bytes()
    assert str(file) == f"{sharded / 'images' / 'plain.png'} (in train-000000.tar)"
    assert (file.name, file.stem, file.suffix, file.stat().st_size) == ("plain.png", "plain", ".png", len(stored))
    with file.open() as stream:
        assert stream.seek(-4, io.SEEK_END) == len(stored) - 4
        assert stream.read() == stored[-4:]
        assert stream.read() == b""
        stream.seek(1)
        assert stream.read(3) == b"PNG"
        with pytest.raises(OSError, match="Invalid"):
            stream.seek(-1)
    missing = file.parent / "absent.png"
    assert not missing.exists()
    with pytest.raises(FileNotFoundError):
        missing.open()
