"""What a table says and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scribbleseg.bench.table import Places, cells, read_table
from scribbleseg.errors import ConfigError
from tests.bench.tables import TREE, write_table


def test_every_data_set_network_method_and_seed_is_a_cell(tmp_path):
    found = list(cells(read_table(write_table(tmp_path)), Places(tmp_path)))
    keys = [(c.data, c.network, c.method, c.seed) for c in found]
    assert len(keys) == len(set(keys)) == 2 * (3 + 3 + 2)  # two seeds; a narrow, a wide, b narrow
    assert ("b", "wide", "low", 0) not in keys
    assert ("b", "narrow", "variant", 0) not in keys
    assert len({c.stem for c in found}) == len(found)


def test_settings_are_laid_over_each_other_from_table_to_seed(tmp_path):
    found = {
        (c.data, c.network, c.method, c.seed): c.config for c in cells(read_table(write_table(tmp_path)), Places(tmp_path))
    }
    assert found["a", "narrow", "low", 0].training.max_steps == 3  # the table's
    assert found["b", "narrow", "low", 0].training.max_steps == 4  # the data set's
    assert found["a", "wide", "low", 0].model.channels == 16
    assert found["a", "narrow", "high", 1].data.labels == "masks"
    assert found["a", "narrow", "high", 1].seed == 1
    assert found["a", "narrow", "low", 0].data.root == tmp_path / "a"


def test_a_protocol_changes_every_cell_and_must_be_known(tmp_path):
    table = read_table(write_table(tmp_path))
    assert {c.config.training.max_steps for c in cells(table, Places(), protocol="short")} == {2}
    with pytest.raises(ConfigError, match="did you mean 'short'"):
        list(cells(table, Places(), protocol="shrot"))


def test_a_protocol_may_leave_tuning_out_have_other_seeds_and_change_one_data_set(tmp_path):
    tree = yaml.safe_load(write_table(tmp_path, tuned=True).read_text())
    tree["protocols"]["short"] |= {"tune": False, "seeds": [7]}
    tree["data"]["b"]["protocols"] = {"short": {"training": {"max_steps": 1}}}
    tree["methods"]["high"]["protocols"] = {"short": {"training": {"max_steps": 9}}}
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(tree))
    table = read_table(path)
    assert list(cells(table, Places(), protocol="short", tuning=True)) == []
    found = list(cells(table, Places(), protocol="short"))
    assert {c.seed for c in found} == {7}
    assert {c.method for c in found} == {"low", "high", "variant", "entropy", "total variation"}
    assert {(c.data, c.config.training.max_steps) for c in found if c.method != "high"} == {("a", 2), ("b", 1)}
    assert {c.config.training.max_steps for c in found if c.method == "high"} == {9}


def test_a_protocol_may_run_a_data_set_with_some_of_its_networks(tmp_path):
    tree = yaml.safe_load(write_table(tmp_path).read_text())
    tree["protocols"]["short"]["networks"] = {"a": ["narrow"]}
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(tree))
    table = read_table(path)
    assert {(c.data, c.network) for c in cells(table, Places(), protocol="short")} == {("a", "narrow"), ("b", "narrow")}
    assert ("a", "wide") in {(c.data, c.network) for c in cells(table, Places())}


def test_tuning_tries_every_choice_on_every_data_set_and_its_methods_wait_for_it(tmp_path):
    table = read_table(write_table(tmp_path, tuned=True))
    tried = list(cells(table, Places(), tuning=True))
    assert [c.choice for c in tried if (c.data, c.network) == ("a", "narrow")] == [
        {"losses.entropy.weight": 0.1},
        {"losses.entropy.weight": 1.0},
        {"losses.total_variation.weight": 0.1},
        {"losses.total_variation.weight": 1.0},
    ]
    assert {c.splits for c in tried} == {("val",)}
    assert {c.config.training.max_steps for c in tried} == {1}
    assert {c.method for c in cells(table, Places())} == {"low", "high", "variant"}
    chosen = {("a", "narrow", "entropy"): {"losses.entropy.weight": 1.0}}
    (cell, _) = [c for c in cells(table, Places(), chosen=chosen) if c.method == "entropy"]  # two seeds
    assert cell.config.losses["entropy"].weight == 1.0
    assert cell.config.training.max_steps == 3


def test_a_part_of_a_method_takes_what_was_chosen_for_the_method(tmp_path):
    tree = yaml.safe_load(write_table(tmp_path, tuned=True).read_text())
    tree["methods"]["variant"] |= {"tuned_as": "entropy"}
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(tree))
    table = read_table(path)
    assert "variant" not in {c.method for c in cells(table, Places())}
    found = cells(table, Places(), chosen={("a", "narrow", "entropy"): {"losses.entropy.weight": 0.7}})
    assert {c.config.losses["entropy"].weight for c in found if c.method == "variant"} == {0.7}
    tree["methods"]["variant"] |= {"tuned_as": "low"}
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="variant: tuned_as"):
        read_table(path)


def test_methods_must_be_tuned_with_one_budget(tmp_path):
    tree = yaml.safe_load(write_table(tmp_path, tuned=True).read_text())
    tree["methods"]["entropy"]["tune"]["losses.entropy.start"] = [0, 0.1]
    path = tmp_path / "unfair.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="entropy 4, total variation 2"):
        read_table(path)


TARGET = {"method": "low", "rivals": ["high"], "gap": 80, "lead": 15, "ratio": 97}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": "lo"}, "did you mean 'low'"),
        ({"networks": {"narrow": {"only": ["c"]}}}, "'c'"),
        ({"metods": {}}, "did you mean 'methods'"),
        ({"methods": {"low": {"setings": {}}, "high": {}}}, "setings"),
        ({"seeds": "zero"}, "seeds"),
        ({"protocols": {"short": {"networks": {"aa": ["wide"]}}}}, "protocols: short: networks.*'aa'"),
        ({"protocols": {"short": {"networks": {"a": ["wied"]}}}}, "protocols: short: networks: a.*did you mean 'wide'"),
        ({"curves": {"few": {"axis": "images", "points": {1: "aa"}}}}, "curves: few.*'aa'"),
        ({"targets": [TARGET | {"rivals": ["hihg"]}]}, "targets: low.*did you mean 'high'"),
        ({"targets": [TARGET | {"data": {"c": {"gap": 1, "lead": 1, "ratio": 1}}}]}, "targets: low: data.*'c'"),
        ({"reported": [{"title": "x", "score": "y", "value": 1, "source": "z", "method": "hihg"}]}, "did you mean 'high'"),
    ],
    ids=[
        "unknown end",
        "unknown data",
        "misspelt section",
        "misspelt key",
        "wrong type",
        "data of a protocol",
        "network of a protocol",
        "curve",
        "target",
        "data of a target",
        "reported",
    ],
)
def test_a_wrong_table_is_refused_with_a_hint(tmp_path: Path, change, message):
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(TREE | change))
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read_table(path)


def test_a_setting_that_no_run_has_names_its_cell(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(TREE | {"settings": {"training": {"max_stesp": 3}}}))
    with pytest.raises(ConfigError, match="a / narrow / high: training.max_stesp"):
        list(cells(read_table(path), Places()))


def test_a_missing_or_broken_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="a YAML file with a table"):
        read_table(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="a YAML file with a table"):
        read_table(tmp_path / "broken.yaml")
