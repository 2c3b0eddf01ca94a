"""The plan: nothing lost, nothing twice, fours unbroken; and the places that it is written to."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, strategies as st

from scribbleseg.distributed.inputs import Entry
from scribbleseg.distributed.ledger import Ledger, done_blocks
from scribbleseg.distributed.place import Place
from scribbleseg.distributed.plan import BLOCKS, Block, blocks, make_plan, read_part
from scribbleseg.errors import ConfigError, StorageError

pytest.importorskip("pyarrow", reason="needs the extra ray")

folders = st.lists(st.tuples(st.sampled_from(["a", "a/b", "c"]), st.integers(1, 30)), max_size=6)


@given(folders, st.integers(1, 20))
def test_blocks_hold_every_input_once_and_break_no_four(sizes, size):
    entries = [Entry(f"{folder}/{n}-{k}.png", f"{n}-{k}") for n, (folder, number) in enumerate(sizes) for k in range(number)]
    made = list(blocks(entries, size))
    assert [e for block in made for e in block.entries] == entries
    assert [(b.part, b.number) for b in made] == [divmod(n, BLOCKS) for n in range(len(made))]
    assert all(size <= len(b.entries) < size + 4 for b in made[:-1])
    for group in (group for block in made for group in block.groups):
        assert len(group) <= 4
        assert len({e.folder for e in group}) == 1
    runs: dict[int, int] = {}  # place in its run of one folder, as the plain loop over the folder counts
    place, before = 0, None
    for n, entry in enumerate(entries):
        place = place + 1 if entry.folder == before else 0
        before, runs[n] = entry.folder, place
    first = 0
    for group in (group for block in made for group in block.groups):
        assert runs[first] % 4 == 0
        first += len(group)
    assert all(Block.from_json(block.to_json()) == block for block in made)


def test_a_plan_of_many_parts_is_read_as_it_was_written(tmp_path):
    out = Place(str(tmp_path))
    names = [f"f/{n:05d}\u2028é.png" for n in range(BLOCKS * 4 * 2 + 3)]  # a line separator is no end of a line
    number, parts, failed = make_plan(out, (("f", Entry(name, name)) for name in names), 4, ())
    assert (number, parts) == (0, 0)
    assert len(failed) == len(names), "names that do not print are left out"
    names = [name.replace("\u2028", "") for name in names]
    number, parts, failed = make_plan(out, (("f", Entry(name, name)) for name in names), 4, ())
    assert (number, parts, failed) == (len(names), 3, [])
    assert [e.key for part in range(parts) for block in read_part(out, part) for e in block.entries] == names


def test_a_block_is_done_when_its_file_is_there(tmp_path):
    out = Place(str(tmp_path))
    ledger = Ledger(out, 0, 7)
    assert not ledger.begin()
    assert done_blocks(out, 0) == (set(), [])
    ledger.end([{"input": "a", "outputs": {}}], [{"input": "b"}])
    assert done_blocks(out, 0) == ({7}, [{"input": "b"}])
    assert not list((tmp_path / "begun" / "000000").iterdir())


def test_care_is_taken_after_two_deaths_and_what_was_noted_is_kept(tmp_path):
    out = Place(str(tmp_path))
    assert [Ledger(out, 0, 1).begin() for _ in range(3)] == [False, False, True]
    ledger = Ledger(out, 0, 1)
    assert ledger.begin()
    assert (ledger.tries("group-1"), ledger.noted("group-1")) == (0, None)
    ledger.mark("group-1")
    ledger.mark("group-10")
    ledger.note("group-1", ([{"input": "é"}], []))
    again = Ledger(out, 0, 1)
    again.begin()
    assert (again.tries("group-1"), again.tries("group-10"), again.tries("group-2")) == (1, 1, 0)
    assert again.noted("group-1") == ([{"input": "é"}], [])
    assert not Ledger(out, 0, 10).begin(), "another block's deaths are its own"


class TestPlace:
    @pytest.fixture(params=["disk", "s3", "fsspec"])
    def place(self, request, tmp_path) -> Place:
        if request.param == "disk":
            return Place(str(tmp_path / "new" / "folder"))
        if request.param == "fsspec":  # a protocol that pyarrow does not know
            return Place(f"memory://{tmp_path.name}/new/folder")
        where, query, _ = request.getfixturevalue("s3")()
        return Place(f"{where}/new/folder{query}")

    def test_files_are_written_listed_and_read(self, place):
        assert place.names("x") == []
        for name in ("x/b.txt", "x/y/c.txt", "x/a.txt", "z.txt", "x/.hidden"):
            place.write(name, name.encode())
        assert place.names("x") == [".hidden", "a.txt", "b.txt"]
        found = list(place.walk())
        assert [f.name for f in found] == ["z.txt", "x/a.txt", "x/b.txt", "x/y/c.txt"]
        assert [f.size for f in found] == [5, 7, 7, 9]
        assert place.read("x/a.txt") == b"x/a.txt"
        assert place.read("x/a.txt", 2, 3) == b"a.t"
        place.write("x/a.txt", b"")
        assert place.read("x/a.txt") == b""
        place.delete("x/y")
        place.delete("x/nothing")
        assert [place.kind(n) for n in ("x", "x/y", "x/a.txt")] == ["folder", "nothing", "file"]
        with pytest.raises(FileNotFoundError):
            place.read("x/y/c.txt")

    def test_a_copy_is_all_of_it(self, place, tmp_path):
        data = os.urandom(9_000_000)
        place.write("large", data)
        place.copy("large", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
        place.copy("large", tmp_path / "part", 5, 5_000_000)
        assert (tmp_path / "part").read_bytes() == data[5:5_000_005]

    def test_what_cannot_be_written_is_one_clear_error(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match="file/a"):
            Place(str(tmp_path)).write("file/a", b"x")

    def test_an_address_that_nobody_knows(self):
        with pytest.raises(ConfigError, match="nosuch://"):
            Place("nosuch://bucket/x")

    @pytest.mark.parametrize("failures", [2, 3, 4])
    def test_what_a_store_refuses_for_a_moment_is_tried_again(self, tmp_path, monkeypatch, failures):
        place, left = Place(f"memory://{tmp_path.name}/again"), [failures]
        real = place._fs

        class Busy:
            def __getattr__(self, name):
                return getattr(real, name)

            def open_output_stream(self, path):
                left[0] -= 1
                if left[0] >= 0:
                    raise OSError("AWS Error SLOW_DOWN")
                return real.open_output_stream(path)

        place._fs = Busy()
        monkeypatch.setattr("scribbleseg.distributed.place.PAUSES_S", (0, 0, 0))
        if failures == 4:
            with pytest.raises(StorageError, match="SLOW_DOWN"):
                place.write("a", b"x")
        else:
            place.write("a", b"x")
            assert place.read("a") == b"x"


@pytest.mark.parametrize("first", [0, 3, BLOCKS * 8 + 1])
def test_a_plan_grows_by_what_is_new(tmp_path, first):
    notes = Place(str(tmp_path))
    names = [f"f/{n:05d}.png" for n in range(first + 1000)]
    random.Random(0).shuffle(names)
    number, parts, _ = make_plan(notes, (("f", Entry(name, name)) for name in sorted(names[:first])), 4, ())
    more, further, failed = make_plan(notes, (("f", Entry(name, name)) for name in sorted(names)), 4, (), parts)
    assert (number, more, failed) == (first, 1000, [])
    planned = [[e.key for block in read_part(notes, part) for e in block.entries] for part in range(parts + further)]
    assert [key for part in planned for key in part] == sorted(names[:first]) + sorted(names[first:])
    assert make_plan(notes, (("f", Entry(name, name)) for name in sorted(names)), 4, (), parts + further) == (0, 0, [])
    assert all(block.part == part for part in range(parts + further) for block in read_part(notes, part))
