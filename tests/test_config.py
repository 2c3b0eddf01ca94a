from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scribbleseg.config import LossTerm, RunConfig, dump_config, load_config, parse_config
from scribbleseg.errors import ConfigError, nearest
from scribbleseg.methods import METHODS
from scribbleseg.trees import merge, parse_overrides


class TestOverrides:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], {}),
            (["--seed=1"], {"seed": 1}),
            (["--seed", "1"], {"seed": 1}),
            (["--training.max_steps=10"], {"training": {"max_steps": 10}}),
            (["--training.max-steps", "10"], {"training": {"max_steps": 10}}),
            (["--a.b.c=x"], {"a": {"b": {"c": "x"}}}),
            (["--data.scale=[0.5, 2]"], {"data": {"scale": [0.5, 2]}}),
            (["--losses.dynamic_feature.dynamic=null"], {"losses": {"dynamic_feature": {"dynamic": None}}}),
            (
                ["--model.backbone={model_type: swin, depths: [1, 1]}"],
                {"model": {"backbone": {"model_type": "swin", "depths": [1, 1]}}},
            ),
            (["--pretrained=false", "--name", "true"], {"pretrained": False, "name": True}),
            (["--offset", "-3"], {"offset": -3}),
            (["--a=b=c"], {"a": "b=c"}),
            (["--data.root=/some-where/with_dashes-in"], {"data": {"root": "/some-where/with_dashes-in"}}),
            (["--a="], {"a": None}),
            (["--data.flip=0", "--data.colour", "0.5", "--seed=2"], {"data": {"flip": 0, "colour": 0.5}, "seed": 2}),
            (["--seed=1", "--seed=2"], {"seed": 2}),
        ],
    )
    def test_forms(self, arguments, expected):
        assert parse_overrides(arguments) == expected

    @pytest.mark.parametrize("arguments", [["seed=1"], ["--seed"], ["--seed", "--data.flip=0"], ["--a=1", "stray"], ["-s=1"]])
    def test_not_an_override(self, arguments):
        with pytest.raises(ConfigError, match=r"write the option with its value, as --seed=1"):
            parse_overrides(arguments)

    def test_not_a_yaml_value(self):
        with pytest.raises(ConfigError, match="a YAML value"):
            parse_overrides(["--data.scale=[1, 2"])

    def test_the_arguments_are_left_alone(self):
        arguments = ["--seed", "1"]
        parse_overrides(arguments)
        assert arguments == ["--seed", "1"]


class TestMerge:
    def test_mapping_by_mapping(self):
        base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
        assert merge(base, {"a": {"c": {"f": 4}}, "e": 5}) == {"a": {"b": 1, "c": {"d": 2, "f": 4}}, "e": 5}

    def test_other_values_replace(self):
        assert merge({"a": {"b": 1}, "c": [1, 2]}, {"a": None, "c": [3]}) == {"a": None, "c": [3]}
        assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}

    def test_arguments_are_left_alone(self):
        base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
        merge(base, over)
        assert (base, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


class TestErrors:
    @pytest.mark.parametrize(
        ("tree", "key", "right"),
        [
            ({"sead": 1}, "sead", "seed"),
            ({"data": {"crop_pxx": 64}}, "data.crop_pxx", "crop_px"),
            ({"data": {"strokes": {"lenght": 0.5}}}, "data.strokes.lenght", "length"),
            ({"model": {"decodr": "fpn"}}, "model.decodr", "decoder"),
            ({"training": {"max_step": 3}}, "training.max_step", "max_steps"),
            ({"training": {"learning_rate": 3}}, "training.learning_rate", None),
        ],
    )
    def test_unknown_key_names_the_nearest(self, tree, key, right):
        hint = f"did you mean '{right}'" if right else "use one of: .*lr"
        with pytest.raises(ConfigError, match=hint) as error:
            parse_config(tree, "run.yaml")
        assert str(error.value).startswith(f"run.yaml: {key}\n")

    @pytest.mark.parametrize(
        ("tree", "key", "got"),
        [
            ({"data": {"crop_px": "wide"}}, "data.crop_px", "'wide'"),
            ({"data": {"crop_px": 8}}, "data.crop_px", "8"),
            ({"training": {"lr": -1}}, "training.lr", "-1"),
            ({"training": {"ema_decay": 1.0}}, "training.ema_decay", "1.0"),
            ({"data": {"flip": 1.2}}, "data.flip", "1.2"),
            ({"data": {"scale": [0, 1]}}, "data.scale.0", "0"),
            ({"data": {"labels": "boxes"}}, "data.labels", "'boxes'"),
            ({"data": {"random_walker": {"beta": -1}}}, "data.random_walker.beta", "-1"),
            ({"data": {"random_walker": {"min_probability": 2}}}, "data.random_walker.min_probability", "2"),
            ({"data": {"strokes": {"length": 30}}}, "data.strokes.length", "30"),
            ({"data": {"strokes": {"drop": -0.1}}}, "data.strokes.drop", "-0.1"),
            ({"data": {"strokes": {"seed": -1}}}, "data.strokes.seed", "-1"),
            ({"data": {"train_images": -5}}, "data.train_images", "-5"),
            ({"training": 3}, "training", "3"),
            ({"losses": {"dynamic_feature": {"weight": -1}}}, "losses.dynamic_feature.weight", "-1"),
            ({"method": "dfrr"}, "method", "'dfrr'"),
        ],
    )
    def test_wrong_value_says_where_and_what(self, tree, key, got):
        with pytest.raises(ConfigError) as error:
            parse_config(tree)
        where, _, told, do = str(error.value).splitlines()
        assert where == f"configuration: {key}"
        assert told.endswith(got)
        assert do.strip() != "to do:"

    def test_a_misspelt_method_names_the_nearest(self):
        with pytest.raises(ConfigError, match="did you mean 'mean_teacher'"):
            parse_config({"method": "mean_teachr"})
        with pytest.raises(ConfigError, match="dfr.*partial_ce"):
            parse_config({"method": "what"})

    def test_no_file(self, tmp_path):
        with pytest.raises(ConfigError, match="No such file") as error:
            load_config(tmp_path / "run.yaml")
        assert str(tmp_path / "run.yaml") in str(error.value)

    @pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\xfd", b"a: b: c"])
    def test_not_yaml(self, tmp_path, content):
        (tmp_path / "run.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match="a YAML file with a run's configuration"):
            load_config(tmp_path / "run.yaml")

    @pytest.mark.parametrize(("content", "kind"), [("- seed\n- 1\n", "list"), ("seed", "str")])
    def test_not_a_mapping(self, tmp_path, content, kind):
        (tmp_path / "run.yaml").write_text(content)
        with pytest.raises(ConfigError, match=f"a mapping of keys to values\n.*{kind}"):
            load_config(tmp_path / "run.yaml")

    def test_keys_that_are_no_words(self, tmp_path):
        (tmp_path / "run.yaml").write_text("1: 2\n")
        with pytest.raises(ConfigError, match="a known key|should be"):
            load_config(tmp_path / "run.yaml")


class TestLoading:
    def test_defaults(self):
        assert load_config() == parse_config({}) == RunConfig().resolved()

    def test_an_empty_file_is_the_defaults(self, tmp_path):
        (tmp_path / "run.yaml").write_text("# nothing\n")
        assert load_config(tmp_path / "run.yaml") == load_config()

    def test_overrides_win_over_the_file(self, tmp_path):
        (tmp_path / "run.yaml").write_text("seed: 3\ndata: {flip: 0.1, colour: 0.3}\n")
        config = load_config(tmp_path / "run.yaml", parse_overrides(["--data.flip=0.9"]))
        assert (config.seed, config.data.flip, config.data.colour) == (3, 0.9, 0.3)

    @pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3"])
    def test_numbers_in_scientific_writing(self, text):
        assert load_config(None, parse_overrides([f"--training.lr={text}"])).training.lr == 0.001

    def test_dump_reads_back_to_the_same(self, tmp_path):
        config = parse_config(
            {
                "seed": 5,
                "method": "dfr",
                "data": {"root": Path("some") / "føldér", "scale": [0.5, 2]},
                "model": {"backbone": "some/folder"},
                "losses": {"dynamic_feature": {"static": {"radius": 3}, "dynamic": None}},
            }
        )
        path = tmp_path / "run.yaml"
        path.write_text(dump_config(config), encoding="utf-8")
        again = load_config(path)
        assert again == config
        assert dump_config(again) == dump_config(config)
        assert "føldér" in dump_config(config)

    def test_dump_shows_every_setting(self):
        tree = yaml.safe_load(dump_config(load_config()))
        assert set(tree) == set(RunConfig.model_fields)
        assert set(tree["training"]) == set(type(RunConfig().training).model_fields)

    def test_a_configuration_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            load_config().seed = 3


class TestMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_resolves_to_its_losses(self, method):
        config = parse_config({"method": method})
        assert set(config.losses) == set(METHODS[method])
        for name, term in config.losses.items():
            assert term == LossTerm(**METHODS[method][name])

    @pytest.mark.parametrize("method", METHODS)
    def test_resolving_twice_changes_nothing(self, method):
        once = parse_config({"method": method, "losses": {"dynamic_feature": {"weight": 0.1, "static": {"radius": 2}}}})
        assert once.resolved() == once
        assert once.resolved().resolved() == once

    def test_changes_are_laid_over_the_method(self):
        config = parse_config({"method": "dfr", "losses": {"dynamic_feature": {"weight": 0.7, "static": {"radius": 2}}}})
        term = config.losses["dynamic_feature"]
        assert (term.weight, term.ramp) == (0.7, METHODS["dfr"]["dynamic_feature"]["ramp"])
        assert term.numbers() == {"static": {"radius": 2}}

    def test_an_inner_change_keeps_the_methods_other_numbers(self):
        config = parse_config({"method": "static", "losses": {"dynamic_feature": {"static": {"radius": 2}}}})
        numbers = config.losses["dynamic_feature"].numbers()
        assert numbers["static"] == METHODS["static"]["dynamic_feature"]["static"] | {"radius": 2}
        assert numbers["dynamic"] is None

    def test_a_loss_can_be_added_and_taken_away(self):
        config = parse_config(
            {"method": "partial_ce", "losses": {"feature_consistency": {}, "partial_cross_entropy": {"weight": 0}}}
        )
        assert config.losses["feature_consistency"] == LossTerm()
        assert config.losses["partial_cross_entropy"].weight == 0

    def test_the_table_of_methods_is_left_alone(self):
        before = yaml.safe_dump(METHODS)
        parse_config({"method": "static", "losses": {"dynamic_feature": {"static": {"radius": 2}}}})
        assert yaml.safe_dump(METHODS) == before


class TestNearest:
    @pytest.mark.parametrize(
        ("name", "told"),
        [("fnp", "did you mean 'fpn'?"), ("zzz", "use one of: fpn, upernet"), ("", "use one of: fpn, upernet")],
    )
    def test_nearest(self, name, told):
        assert nearest(name, {"upernet": 1, "fpn": 2}) == told


def test_a_file_of_brackets_within_brackets_is_refused(tmp_path):
    (tmp_path / "deep.yaml").write_text("data: " + "[" * 5000)
    with pytest.raises(ConfigError, match="brackets within brackets"):
        load_config(tmp_path / "deep.yaml")
