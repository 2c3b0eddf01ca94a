"""Shards that other people wrote: no index, other keys, other places."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
import yaml

from scribbleseg.data.folder import open_dataset
from scribbleseg.data.shards.pack import shard_dataset
from scribbleseg.errors import DataError
from tests.fake.datasets import make_dataset, write_lines

#: What `dataset.yaml` says of shards with `000.jpg`, `000.scribble.png` and `000.seg.png` in them.
SHARDS = {"files": "part-*.tar", "images": "jpg", "scribbles": "scribble.png", "masks": ["seg.png", "seg.tif"]}


def write_foreign(plain: Path, root: Path, where: Path | None = None, **shards: object) -> Path:
    """Write shards with the webdataset package, and a dataset.yaml beside them."""
    where = where or root
    where.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    stems = sorted(path.stem for path in (plain / "images").iterdir())
    with webdataset.ShardWriter(str(where / "part-%06d.tar"), maxcount=3, verbose=0) as sink:
        for number, stem in enumerate(stems):
            sink.write(
                {
                    "__key__": stem,
                    "jpg": (plain / "images" / f"{stem}.jpg").read_bytes(),
                    "scribble.png": (plain / "scribbles" / f"{stem}.png").read_bytes(),
                    "seg.png": (plain / "masks" / f"{stem}.png").read_bytes(),
                    "cls": number,
                }
            )
    write_lines(root / "train.txt", stems)
    spec = yaml.safe_load((plain / "dataset.yaml").read_text())
    spec |= {"splits": {"train": "train.txt"}, "shards": SHARDS | shards}
    (root / "dataset.yaml").write_text(yaml.safe_dump(spec))
    return root


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "plain", num_images=7, suffix=".jpg")


def same(root: Path, plain: Path) -> None:
    dataset, truth = open_dataset(root), open_dataset(plain)
    assert len(dataset.stems("train")) == 7
    for stem in dataset.stems("train"):
        assert np.array_equal(dataset.rgb(stem), truth.rgb(stem))
        for kind in ("scribbles", "masks"):
            assert np.array_equal(dataset.labels(stem, kind), truth.labels(stem, kind))


def test_an_index_is_made_once_and_kept(plain: Path, tmp_path: Path) -> None:
    root = write_foreign(plain, tmp_path / "foreign")
    assert len(list(root.glob("*.tar"))) == 3
    same(root, plain)
    made = (root / "shards.index").read_bytes()
    (root / "shards.index").touch()
    same(root, plain)
    assert (root / "shards.index").read_bytes() == made


def test_where_the_index_cannot_be_kept_it_is_done_without(plain: Path, tmp_path: Path) -> None:
    root = write_foreign(plain, tmp_path / "foreign")
    (root / "shards.index").mkdir()  # nothing can be written in its place
    same(root, plain)
    assert not list(root.glob("*.part"))


def test_shards_may_lie_elsewhere(plain: Path, tmp_path: Path) -> None:
    where = tmp_path / "far" / "away"
    same(write_foreign(plain, tmp_path / "a", where, files=f"{where}/part-*.tar"), plain)
    same(write_foreign(plain, tmp_path / "b", where, files=["../far/*/part-*0.tar", "../far/*/part-*[12].tar"]), plain)
    assert not list(where.glob("*.index")), "a place of somebody else's is not written to"


def test_shards_that_were_added_to_or_replaced_are_looked_at_again(plain: Path, tmp_path: Path) -> None:
    root = write_foreign(plain, tmp_path / "foreign")
    last = root / "part-000002.tar"
    kept = shutil.move(last, tmp_path / "kept")
    assert len(open_dataset(root).shards) == 18
    shutil.move(kept, last)
    same(root, plain)


def test_names_as_tar_writes_them(plain: Path, tmp_path: Path) -> None:
    """`tar cf part.tar .` puts `./` in front and has an entry for the folder; a Mac adds files of its own."""
    root = write_foreign(plain, tmp_path / "foreign")
    with tarfile.open(root / "part-000009.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("./._extra.jpg", "./extra.jpg", "./" + 150 * "x" + ".jpg"):
            stored = (plain / "images" / "image_000.jpg").read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(stored)
            tar.addfile(info, io.BytesIO(stored))
    dataset = open_dataset(root)
    for stem in ("extra", 150 * "x"):
        assert np.array_equal(dataset.rgb(stem), dataset.rgb("image_000"))
    same(root, plain)


def test_keys_that_fit_nothing_are_told_with_what_is_there(plain: Path, tmp_path: Path) -> None:
    root = write_foreign(plain, tmp_path / "foreign", images="image", scribbles="scribble", masks="mask")
    (root / "shards.index").unlink(missing_ok=True)
    with pytest.raises(DataError) as told:
        open_dataset(root)
    assert "dataset.yaml" in told.value.where
    assert "7 × jpg" in told.value.got
    assert "7 × cls" in told.value.got
    assert "image.jpg" in told.value.expected


def test_no_shards(plain: Path, tmp_path: Path) -> None:
    root = write_foreign(plain, tmp_path / "foreign", files="train-*.tar")
    with pytest.raises(DataError, match=r"train-\*\.tar"):
        open_dataset(root)


@pytest.mark.parametrize("change", [{"files": []}, {"image": "jpg"}, {"files": 3}, {"images": ""}, {"images": []}])
def test_a_wrong_key_is_named(plain: Path, tmp_path: Path, change: dict[str, object]) -> None:
    root = write_foreign(plain, tmp_path / "foreign", **change)
    with pytest.raises(DataError, match="shards"):
        open_dataset(root)


def test_volumes_in_shards_are_refused_by_name(plain: Path, tmp_path: Path) -> None:
    root = write_foreign(plain, tmp_path / "foreign", images=["jpg", "nii.gz"])
    with tarfile.open(root / "part-000009.tar", "w") as tar:
        info = tarfile.TarInfo("scan.nii.gz")
        tar.addfile(info, io.BytesIO(b""))
    with pytest.raises(DataError, match="scan"):
        open_dataset(root).rgb("scan")


def test_our_shards_without_their_index_are_the_same(plain: Path, tmp_path: Path) -> None:
    shard_dataset(plain, tmp_path / "ours")
    index = tmp_path / "ours" / "shards.index"
    made = index.read_bytes()
    index.unlink()
    open_dataset(tmp_path / "ours")
    assert index.read_bytes() == made
