"""The tables that ship with the repository can be run as they stand, wherever the data are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.method_split import write_split
from recipes.acdc_folds import write_folds
from scribbleseg.bench.table import Places, cells, read_table
from scribbleseg.data.folder import open_dataset
from tests.fake.datasets import make_dataset

ROOT = Path(__file__).parents[2]
TABLES = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("benchmarks/*.yaml")])


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_every_cell_of_every_protocol_has_settings_that_a_run_takes(path, tmp_path):
    table = read_table(path)
    table = table.model_copy(update={"seeds": table.seeds[:1]})
    for protocol in ("", *table.protocols):
        found = list(cells(table, Places(tmp_path, tmp_path), protocol=protocol))
        found += cells(table, Places(tmp_path, tmp_path), protocol=protocol, tuning=True)
        assert {c.method for c in found} == set(table.methods) - untuned(table, protocol)
        assert all(c.config.data.root.is_relative_to(tmp_path) for c in found), "data come from the command line's folder"
        assert {c.config.data.labels for c in found if c.method == table.high} == {"masks"}


@pytest.mark.parametrize(("name", "protocol"), [("staged", "small"), ("method", "")])
def test_the_static_rival_with_pseudo_labels_has_the_very_labels_of_ours(name, protocol, tmp_path):
    found = cells(read_table(ROOT / "benchmarks" / f"{name}.yaml"), Places(tmp_path, tmp_path), protocol=protocol)
    labels = {c.method: c.config.losses["pseudo_label"] for c in found if "pseudo_label" in c.config.losses}
    for rival in ("static kernel + pseudo labels", "pseudo labels alone"):
        assert labels[rival] == labels["DFR + pseudo labels"]


def untuned(table, protocol):
    """Methods without cells before the tuning of the method they belong to is done."""
    whole = protocol == "" or table.protocols[protocol].tune
    return {name for name, method in table.methods.items() if method.tuned_as and whole}


def test_the_five_folds_share_files_and_no_patient(tmp_path):
    source = make_dataset(tmp_path / "acdc", num_images=10)
    stems = [s for split in ("train", "val", "test") for s in open_dataset(source).stems(split)]
    patients = [1, 5, 21, 30, 41, 45, 61, 70, 81, 100]
    names = dict(zip(stems, (f"patient{n:03d}_frame01_slice_00" for n in patients), strict=False))
    for folder in ("images", "scribbles", "masks"):
        for file in (source / folder).iterdir():
            file.rename(file.with_stem(names[file.stem]))
    for file in open_dataset(source).spec.splits.values():
        lines = (source / file).read_text().split()
        (source / file).write_text("\n".join(names[s] for s in lines))
    write_folds(source, tmp_path / "folds")
    tested: list[str] = []
    for fold in range(1, 6):
        dataset = open_dataset(tmp_path / "folds" / f"fold{fold}")
        parts = {split: set(dataset.stems(split)) for split in ("train", "val", "test")}
        assert set().union(*parts.values()) == set(names.values())
        assert sum(map(len, parts.values())) == len(names), "a patient in two parts"
        assert {int(s[7:10]) for s in parts["test"]} == {n for n in patients if 20 * (fold - 1) < n <= 20 * fold}
        assert (
            dataset.labels(next(iter(parts["train"])), "scribbles").shape == dataset.rgb(next(iter(parts["train"]))).shape[:2]
        )
        tested += parts["test"]
    assert sorted(tested) == sorted(names.values())
    assert yaml.safe_load((tmp_path / "folds/fold1/dataset.yaml").read_text())["images"].startswith("..")


def test_a_split_to_make_methods_on_reads_nothing_of_test(tmp_path):
    source = make_dataset(tmp_path / "photographs", num_images=12)
    write_split(source, tmp_path / "made" / "photographs")
    whole, made = open_dataset(source), open_dataset(tmp_path / "made" / "photographs")
    train, val = set(made.stems("train")), set(made.stems("val"))
    assert not train & val
    assert train | val == set(whole.stems("train")) | set(whole.stems("val"))
    assert val > set(whole.stems("val"))
    assert set(made.spec.splits) == {"train", "val"}
    stem = min(val)
    assert (made.labels(stem, "masks") == whole.labels(stem, "masks")).all()
    assert (made.labels(stem, "scribbles") == whole.labels(stem, "scribbles")).all()
