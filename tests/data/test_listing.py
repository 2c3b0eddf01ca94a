"""Finding files: what a folder holds now, with one look for many stems."""

from __future__ import annotations

import os

import pytest

from scribbleseg.data.listing import Listing, slice_stem, split_slice
from scribbleseg.errors import DataError


def test_a_folder_is_read_once_for_all_stems(tmp_path, monkeypatch):
    for n in range(20):
        (tmp_path / f"a{n}.png").touch()
    looks = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looks.append(folder) or scandir(folder))
    listing = Listing()
    for n in range(20):
        assert listing.find(tmp_path, f"a{n}").path == tmp_path / f"a{n}.png"
    assert len(looks) == 1


def test_what_is_added_renamed_or_removed_is_seen(tmp_path):
    (tmp_path / "a.png").touch()
    listing = Listing()
    assert listing.find(tmp_path, "a").path.name == "a.png"
    (tmp_path / "b.png").touch()
    assert listing.find(tmp_path, "b").path.name == "b.png"
    os.utime(tmp_path, ns=(1, 1))  # as after a change: the clock of a disk may stand still for some milliseconds
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    assert listing.find(tmp_path, "a").path.name == "a.tif"
    (tmp_path / "a.jpg").touch()
    os.utime(tmp_path, ns=(2, 2))
    with pytest.raises(DataError, match=r"a\.jpg, a\.tif"):
        listing.find(tmp_path, "a")


def test_folders_and_other_files_are_no_images(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.txt").touch()
    for stem in "ab":
        with pytest.raises(DataError, match="no such file"):
            Listing().find(tmp_path, stem)


class TestSlices:
    def test_a_number_after_the_at_sign_is_a_slice(self, tmp_path):
        (tmp_path / "scan.tif").touch()
        assert Listing().find(tmp_path, "scan@007") == (tmp_path / "scan.tif", 7)
        assert Listing().find(tmp_path, "scan@7") == (tmp_path / "scan.tif", 7)
        assert Listing().find(tmp_path, "scan") == (tmp_path / "scan.tif", None)

    def test_a_file_of_that_very_name_goes_first(self, tmp_path):
        for name in ("scan.tif", "scan@007.png", "photo@2.png"):
            (tmp_path / name).touch()
        assert Listing().find(tmp_path, "scan@007") == (tmp_path / "scan@007.png", None)
        assert Listing().find(tmp_path, "scan@7") == (tmp_path / "scan@007.png", None)
        assert Listing().find(tmp_path, "scan@008") == (tmp_path / "scan.tif", 8)
        assert Listing().find(tmp_path, "photo@2") == (tmp_path / "photo@2.png", None)

    @pytest.mark.parametrize("stem", ["scan", "scan@", "@3", "scan@x", "scan@-1", "scan@1234567", "a@b.c"])
    def test_other_names_have_no_slice(self, stem):
        assert split_slice(stem) is None

    def test_names_sort_as_slices_do(self):
        stems = [slice_stem("scan", n) for n in (0, 9, 10, 99, 100, 999)]
        assert stems == sorted(stems)
        assert split_slice(stems[2]) == ("scan", "010")
