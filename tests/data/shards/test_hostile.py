"""Archives and indices that are broken or mean harm: one error that names the file, little memory, little time."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st

from scribbleseg.check.run import check
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.shards.headers import MAX_PROPERTIES, Entry, entries
from scribbleseg.data.shards.pack import shard_dataset
from scribbleseg.errors import DataError
from tests.fake.datasets import make_dataset

BLOCK = 512


def member(name: str, contents: bytes = b"x", **more: object) -> bytes:
    """Return a file as it stands in a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(contents)
    for key, value in more.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + contents + bytes(-len(contents) % BLOCK)


def pax(contents: bytes, size: int | None = None) -> bytes:
    return member("./PaxHeaders/x", contents, type=tarfile.XHDTYPE, **({} if size is None else {"size": size}))


END = bytes(2 * BLOCK)

GOOD = member("a.image.png")

#: What is in a shard, and what the error says of it.
HOSTILE: dict[str, tuple[bytes, str]] = {
    "climbs": (member("../../etc/a.image.png") + END, "names of files inside"),
    "climbs later": (GOOD + member("a/../../b.image.png") + END, "names of files inside"),
    "absolute": (member("/etc/a.image.png") + END, "names of files inside"),
    "backslashes": (member("..\\a.image.png") + END, "names of files inside"),
    "control characters": (member("a\x1b[2J.image.png") + END, "names of files inside"),
    "no text": (member("a").replace(b"a\0", b"\xff\0", 1) + END, "header of a file"),  # the sum of the header is another
    "long name that climbs": (member("../" + 200 * "a" + ".image.png") + END, "names of files inside"),
    "pax name that climbs": (pax(b"26 path=../../a.image.png\n") + GOOD + END, "names of files inside"),
    "link": (member("a.image.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd") + END, "a link"),
    "hard link": (member("a.image.png", b"", type=tarfile.LNKTYPE, linkname="b") + END, "a hard link"),
    "device": (member("a.image.png", b"", type=tarfile.CHRTYPE) + END, "a device"),
    "pipe": (member("a.image.png", b"", type=tarfile.FIFOTYPE) + END, "a pipe"),
    "holes": (member("a.image.png", b"", type=tarfile.GNUTYPE_SPARSE) + END, "with holes"),
    "holes in pax": (pax(b"22 GNU.sparse.major=1\n") + GOOD + END, "without holes"),
    "size in pax": (pax(b"17 size=99999999\n") + GOOD + END, "at most 8 GiB"),
    "absurd size": (member("a.image.png", b"", size=2**62) + END, "perhaps the shard was cut short"),
    "negative size": (member("a.image.png", b"", size=-1024) + END, "header|contents within"),
    "absurd name": (member("x", b"a" * 100, type=tarfile.GNUTYPE_LONGNAME, size=2**40) + END, "contents within"),
    "name of a megabyte": (member("x", b"a" * 2**20, type=tarfile.GNUTYPE_LONGNAME) + GOOD + END, "properties in"),
    "pax of a megabyte": (pax(b"1" * 2**20) + GOOD + END, "properties in"),
    "pax of digits": (pax(b"1" * MAX_PROPERTIES) + GOOD + END, "properties"),
    "pax that does not go on": (pax(b"0 path=x\n") + GOOD + END, "properties"),
    "pax that goes too far": (pax(b"999999 path=x\n") + GOOD + END, "properties"),
    "unknown type": (member("a.image.png", b"", type=b"Z") + END, "something else"),
    "cut in a file": ((GOOD + member("b.image.png", bytes(5000)) + END)[:4000], "cut short"),
    "cut in a header": ((GOOD + GOOD)[: 2 * BLOCK + 100], "cut short"),
    "cut after a file": (GOOD, "cut short"),
    "empty": (b"", "cut short"),
    "compressed": (b"\x1f\x8b\x08\x00" + bytes(BLOCK), "gunzip"),
    "no tar": (b"PK\x03\x04" + bytes(2 * BLOCK), "header of a file"),
    "damaged header": (GOOD + b"\x01" + member("b.image.png")[1:] + END, "header of a file"),
    "twice": (GOOD + GOOD + END, "a second time"),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    shard_dataset(make_dataset(folder / "plain"), folder / "shards")
    return folder / "shards"


@pytest.fixture
def root(packed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(packed, tmp_path / "shards")


@pytest.mark.parametrize("trouble", HOSTILE)
def test_a_hostile_shard_is_refused_by_name(root: Path, trouble: str) -> None:
    contents, words = HOSTILE[trouble]
    (root / "train-000007.tar").write_bytes(contents)
    before = sorted(path.name for path in root.iterdir())
    tracemalloc.start()
    with pytest.raises(DataError, match=words) as told:
        open_dataset(root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "train-000007.tar" in told.value.where
    assert "\x1b" not in str(told.value)
    (finding,) = check(root, jobs=1).findings
    assert "train-000007.tar" in finding.cases[0].where
    assert peak < 2**24
    assert sorted(path.name for path in root.iterdir()) == before, "nothing is left behind"


def test_the_same_file_in_two_shards(root: Path) -> None:
    shutil.copy(root / "train-000000.tar", root / "train-000001.tar")
    with pytest.raises(DataError, match="a second time") as told:
        open_dataset(root)
    assert "train-000001.tar" in told.value.where


def test_many_headers_before_a_file_do_not_pile_up(tmp_path: Path) -> None:
    record = b"22 path=b/a.image.png\n"
    (tmp_path / "a.tar").write_bytes(5000 * pax(record) + GOOD + END)  # tarfile goes down a level for each
    assert [entry.name for entry in entries(tmp_path / "a.tar")] == ["b/a.image.png"]


#: Files that are JSON, but not an index of the shards that are there.
OF_OTHERS = ("", "[]", "null\n", '{"version":1}', '{"version":2,"shards":[]}\n{"shard":1}\n')


class TestAnIndexThatLies:
    """The index says where a file is; whoever wrote it may be wrong, or mean harm."""

    def spoil(self, root: Path, **changes: object) -> Dataset:
        lines = (root / "shards.index").read_text().splitlines()
        tree = json.loads(lines[2])
        assert tree["shard"] == "train-000000.tar"
        row = tree["files"][0]
        tree["files"][0] = [changes.get("name", row[0]), changes.get("offset", row[1]), changes.get("size", row[2])]
        lines[2] = json.dumps(tree)
        (root / "shards.index").write_text("\n".join(lines) + "\n")
        return open_dataset(root)

    @pytest.mark.parametrize(
        "change",
        [
            {"offset": -512},
            {"offset": 0},
            {"offset": 513},
            {"offset": 2**70},
            {"size": -1},
            {"size": 2**70},
            {"size": 10**7},
            {"offset": 512.0},
            {"offset": "512"},
            {"size": True},
            {"name": 7},
            {"name": ["x"]},
        ],
    )
    def test_places_that_cannot_be(self, root: Path, change: dict[str, object]) -> None:
        with pytest.raises(DataError, match="deleted|delete it") as told:
            self.spoil(root, **change)
        assert "shards.index, line 3" in told.value.where

    @pytest.mark.parametrize("change", [{"offset": 1024}, {"size": 1}, {"name": "image_001.image.png"}])
    def test_places_where_something_else_is(self, root: Path, change: dict[str, object]) -> None:
        lines = (root / "shards.index").read_text()
        if "name" in change:  # the name of another file, whose own row has the first one's name
            first, second = json.loads(lines.splitlines()[2])["files"][:4:3]
            assert (first[0], second[0]) == ("image_000.image.png", "image_001.image.png")
            swapped = lines.replace(first[0], "?").replace(second[0], first[0]).replace("?", second[0])
            (root / "shards.index").write_text(swapped)
            dataset = open_dataset(root)
        else:
            dataset = self.spoil(root, **change)
        with pytest.raises(DataError, match="delete shards.index") as told:
            dataset.rgb("image_000")
        assert "train-000000.tar" in told.value.where
        (root / "shards.index").write_text(lines)
        assert open_dataset(root).rgb("image_000").size

    @pytest.mark.parametrize(
        "text",
        [*OF_OTHERS, "{", "\x00\xff", "[" * 10**5],
    )
    def test_what_is_no_index_or_of_other_shards(self, root: Path, text: str) -> None:
        (root / "shards.index").write_text(text)
        if text in OF_OTHERS:
            assert open_dataset(root).rgb("image_000").size, "it is made anew"
        else:
            with pytest.raises(DataError, match="delete it") as told:
                open_dataset(root)
            assert "shards.index, line 1" in told.value.where

    @pytest.mark.parametrize("line", ["", "{}", "7", '{"shard":"train-000000.tar"}', '{"shard":"other.tar","files":[]}', "}"])
    def test_what_is_missing_in_it(self, root: Path, line: str) -> None:
        lines = (root / "shards.index").read_text().splitlines()
        lines[2] = line
        (root / "shards.index").write_text("\n".join(lines))
        with pytest.raises(DataError, match="delete it") as told:
            open_dataset(root)
        assert "shards.index" in told.value.where

    def test_one_larger_than_its_shards_is_not_read(self, root: Path) -> None:
        with (root / "shards.index").open("wb") as file:
            file.truncate(2**33)  # of which the disk holds nothing
        with pytest.raises(DataError, match="more bytes than the shards"):
            open_dataset(root)


def test_a_shard_that_was_cut_short_after_it_was_opened(root: Path) -> None:
    dataset = open_dataset(root)
    stem = dataset.stems("train")[-1]
    shard = root / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"train-000000\.tar"):
        dataset.rgb(stem)
    with pytest.raises(DataError, match="cut short"):
        open_dataset(root)


def test_a_shard_that_is_gone_after_it_was_opened(root: Path) -> None:
    dataset = open_dataset(root)
    (root / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"image_000\.png \(in train-000000\.tar\)"):
        dataset.rgb("image_000")


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@FUZZ
@given(data=st.data())
def test_damage_anywhere_is_an_error_of_ours_or_none(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of shard or index are changed, cut or doubled: what is read is read, all else is one clear error."""
    root = tmp_path / "damaged"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(packed, root)
    if data.draw(st.booleans(), "without index"):
        (root / "shards.index").unlink()
    files = sorted(path for path in root.iterdir() if path.suffix in (".tar", ".index"))
    path = data.draw(st.sampled_from(files), "file")
    contents = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        # most of a small shard is padding: half of the changes go to the first header
        at = data.draw(st.integers(0, len(contents)) | st.integers(0, 2 * BLOCK), "place")
        match data.draw(st.sampled_from(["change", "cut", "double", "insert"]), "kind"):
            case "change":
                new = data.draw(st.binary(min_size=1, max_size=12), "bytes")
                contents[at : at + len(new)] = new
            case "cut":
                del contents[at:]
            case "double":
                contents[at:at] = contents[at : at + BLOCK]
            case "insert":
                contents[at:at] = data.draw(st.binary(max_size=BLOCK), "bytes")
    path.write_bytes(contents)
    told = ""
    try:
        dataset = open_dataset(root)
        for stem in dataset.stems("train"):
            dataset.labels(stem, "scribbles", dataset.rgb(stem).shape[:2])
    except DataError as error:
        told = error.where
    assert told == "" or told.startswith(str(root))


NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1, max_size=60)


@FUZZ
@given(
    files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=1500), max_size=8),
    format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_whatever_tarfile_writes_is_found_where_tarfile_finds_it(tmp_path: Path, files: dict[str, bytes], format: int) -> None:
    files = {name: contents for name, contents in files.items() if not {".", ".."} & set(name.split("/"))}
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=format) as tar:
        for name, contents in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    with tarfile.open(path) as tar:
        truth = [Entry(info.name, info.offset_data, info.size) for info in tar]
    assert list(entries(path)) == truth
    assert [entry.name for entry in truth] == list(files)


def test_a_dataset_of_hostile_yaml(root: Path) -> None:
    tree = yaml.safe_load((root / "dataset.yaml").read_text())
    for pattern in ("**x/*.tar", "/", "../*", "\0.tar", "*" * 500):
        tree["shards"] = {"files": pattern}
        (root / "dataset.yaml").write_text(yaml.safe_dump(tree))
        with pytest.raises(DataError):
            open_dataset(root)
