"""The page says what the results say."""

from __future__ import annotations

import pytest
import yaml

from scribbleseg.bench.page import section, write_section
from scribbleseg.bench.run import Folder
from scribbleseg.bench.scores import paired
from scribbleseg.bench.table import Places, read_table
from scribbleseg.errors import ConfigError
from tests.bench.tables import TREE, write_table

MACHINE = {"processor": "a processor", "cores": 2, "threads": 1, "accelerator": None}


def result(method: str, seed: int, miou: float, data: str = "a", test: bool = True, **more):
    scores = {"miou": miou, "border_miou": miou - 0.1, "pixel_accuracy": 0.9, "per_case": [miou + n / 100 for n in range(8)]}
    config = {
        "training": {"max_steps": 3, "batch_size": 2},
        "data": {"longest_px": 0, "crop_px": 32, "scale": [0.9, 1.1]},
        "model": {"backbone": {"model_type": "unet", "hidden_sizes": [8, 8]}, "decoder": "unet"},
    }
    base = {"data": data, "network": "narrow", "method": method, "seed": seed, "protocol": "", "minutes": 2.0, "config": config}
    base |= {"provenance": {"machine": MACHINE, "commit": "abc"}, "val": scores} | ({"test": scores} if test else {})
    return base | more


@pytest.fixture
def table(tmp_path):
    return read_table(write_table(tmp_path))


def row(text: str, method: str) -> list[str]:
    return [cell.strip() for cell in next(x for x in text.splitlines() if x.startswith(f"| {method} |")).split("|")[1:-1]]


def test_scores_are_means_over_seeds_and_shares_of_the_gap(table, tmp_path):
    results = [result("low", 0, 0.5), result("low", 1, 0.6), result("high", 0, 0.75), result("variant", 0, 0.65)]
    text = section(table, results, tmp_path, "small")
    assert row(text, "low")[2:4] == ["0.550 ± 0.071", "0 %"]
    assert row(text, "high")[2:4] == ["0.750", "100 %"]
    assert row(text, "variant")[2:4] == ["0.650", "60 %"]  # of the gap from 0.5 to 0.75: of the seed that all three have
    assert "Seeds 0, 1. a processor, 2 cores, no GPU" in text
    assert "### b" not in text


def test_methods_are_compared_over_the_seeds_that_both_have(tmp_path):
    methods = TREE["methods"] | {name: {"settings": {"method": "partial_ce"}} for name in ("ours", "rival")}
    asked = {"method": "ours", "rivals": ["rival"], "gap": 80, "lead": 15, "ratio": 97}
    table = with_more(tmp_path, methods=methods, targets=[asked])
    results = [result(m, 0, s) for m, s in {"low": 0.5, "high": 0.7, "ours": 0.6, "rival": 0.58}.items()]
    unlucky = [*results, result("ours", 1, 0.3)]  # a seed on which nothing else was trained
    text, both = section(table, results, tmp_path, "x"), section(table, unlucky, tmp_path, "x")
    assert row(both, "ours")[2] == "0.450 ± 0.212"
    assert row(both, "ours")[3] == row(text, "ours")[3] == "50 %"
    assert (
        row(both, "a, narrow")[2:]
        == row(text, "a, narrow")[2:]
        == ["50, 30 short", "≥ 80", "rival: 10, 5 short", "≥ 15", "85.7, 11.3 short", "≥ 97"]
    )
    with_ends = [*unlucky, result("low", 1, 0.2), result("high", 1, 0.4)]
    assert row(section(table, with_ends, tmp_path, "x"), "ours")[3] == "50 %"
    assert row(section(table, with_ends, tmp_path, "x"), "a, narrow")[4] == "rival: 10, 5 short", "the rival has seed 0 alone"


def test_every_machine_is_named(table, tmp_path):
    gpu = {"machine": MACHINE | {"processor": "another", "accelerator": "a GPU", "bf16": True}, "commit": "abc"}
    old = {"machine": MACHINE | {"bf16": False}, "commit": "abc"}
    results = [result("low", 0, 0.5), result("high", 0, 0.6, provenance=old), result("variant", 0, 0.6, provenance=gpu)]
    text = section(table, results, tmp_path, "x")
    words = "a processor, 2 cores, no GPU, 1 thread a run"
    assert f"Seed 0. {words}; {words}, float32 (no bf16 there); another, a GPU. Commits abc." in text


def test_an_end_that_is_missing_or_a_gap_that_is_none_leaves_shares_out(table, tmp_path):
    assert row(section(table, [result("low", 0, 0.5)], tmp_path, "x"), "low")[3] == "–"
    assert row(section(table, [result("low", 0, 0.5), result("high", 0, 0.5)], tmp_path, "x"), "high")[3] == "–"
    assert not list(tmp_path.glob("*.svg"))


def test_variants_stand_apart_and_protocols_are_marked(table, tmp_path):
    results = [result("low", 0, 0.5), result("variant", 0, 0.6, test=False)]
    text = section(table, results, tmp_path, "x")
    assert text.index("| on val |") < text.index("| variant | 0.600 |")
    alone = section(table, [result("variant", 0, 0.6, test=False)], tmp_path, "x")
    assert "| variant | 0.600 |" in alone
    assert "| method |" not in alone, "a table without rows"
    assert "Protocol “short”" in section(table, [result("low", 0, 0.5, protocol="short")], tmp_path, "x")


def test_the_paired_test_pairs_cases_and_tells_a_steady_difference_from_none():
    mine = [result("low", 0, 0.5), result("high", 0, 0.7)]
    difference, p = paired(mine, "low", "high")
    assert difference == pytest.approx(-0.2)
    assert p < 0.01
    mine[0]["test"] = mine[0]["test"] | {
        "per_case": [v + 0.2 + (0.01 if n % 2 else -0.01) for n, v in enumerate(mine[0]["test"]["per_case"])]
    }
    assert paired(mine, "low", "high")[1] > 0.5
    assert paired([result("low", 0, 0.5), result("high", 1, 0.7)], "low", "high") is None  # no seed in common


def test_a_picture_is_drawn_and_linked(table, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench small: begin -->\nold\n<!-- bench small: end -->\nafter\n")
    folder = Folder(table, Places(), tmp_path / "none")
    folder.results = lambda: [result("low", 0, 0.5), result("high", 0, 0.7), result("variant", 0, 0.6)]
    assert write_section(page, folder, "small") == 3
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "](images/small--a--narrow.svg)" in text
    assert (tmp_path / "images" / "small--a--narrow.svg").stat().st_size > 1000


def test_a_page_without_the_marks_is_refused(table, tmp_path):
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(ConfigError, match="bench small: begin"):
        write_section(tmp_path / "page.md", Folder(table, Places(), tmp_path), "small")


def with_more(tmp_path, **more):
    path = write_table(tmp_path)
    path.write_text(yaml.safe_dump(TREE | more, sort_keys=False))
    return read_table(path)


def test_a_curve_has_a_picture_and_a_row_a_method_and_its_points_no_tables(tmp_path):
    table = with_more(tmp_path, curves={"Fewer images": {"axis": "training images", "points": {20: "b", 100: "a"}}})
    results = [result("low", 0, 0.5), result("low", 1, 0.6), result("low", 0, 0.4, "b"), result("variant", 0, 0.7)]
    text = section(table, results, tmp_path, "x")
    assert "### a, narrow" not in text
    assert "| mIoU, test; training images | 20 | 100 |" in text
    assert row(text, "low")[1:] == ["0.400", "0.550 ± 0.071"]
    assert row(text, "variant")[1:] == ["–", "0.700"]
    (picture,) = tmp_path.glob("*.svg")
    assert f"(images/{picture.name})" in text
    assert "### a, narrow" in section(table, [*results, result("high", 0, 0.8)], tmp_path, "x")
    assert "Fewer images" not in section(table, results[:2], tmp_path, "x"), "one point is no curve"


def test_what_papers_report_stands_beside_the_best_networks_mean(tmp_path):
    row_of = {"score": "mIoU", "value": 82.8, "full": 84.0, "source": "a paper", "differs": "crops"}
    reported = [row_of | {"title": "high", "method": "high", "data": "a"}, row_of | {"title": "other", "full": None}]
    table = with_more(tmp_path, reported=reported, high="variant")
    results = [
        result("high", 0, 0.7),
        result("high", 1, 0.8),
        result("variant", 0, 0.9),
        result("high", 0, 0.5, network="wide"),
    ]
    text = section(table, results, tmp_path, "x")
    rows = [r for r in text.splitlines() if "a paper" in r]
    assert rows[0] == "| high | mIoU | 82.8 | 84 | 0.986 | 75.0 | 0.833 | a paper | crops |"
    assert rows[1] == "| other | mIoU | 82.8 | – | – | – | – | a paper | crops |"


def test_what_was_asked_stands_beside_what_was_reached_and_what_is_missing(tmp_path):
    asked = {"gap": 80, "lead": 15, "ratio": 97}
    target = asked | {"method": "ours", "rivals": ["rival", "weak"], "data": {"b": asked | {"gap": 95}}}
    methods = TREE["methods"] | {name: {"settings": {"method": "partial_ce"}} for name in ("ours", "rival", "weak")}
    table = with_more(tmp_path, methods=methods, targets=[target])
    scores = {"low": 0.5, "high": 0.7, "ours": 0.69, "rival": 0.62, "weak": 0.6}
    results = [result(method, 0, miou, data) for data in ("a", "b") for method, miou in scores.items()]
    lines = [line for line in section(table, results, tmp_path, "x").splitlines() if line.startswith(("| a, ", "| b, "))]
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert first == ["a, narrow", "ours", "95", "≥ 80", "rival: 35", "≥ 15", "98.6", "≥ 97"]
    assert second[2:4] == ["95", "≥ 95"]
    results[2] = result("ours", 0, 0.63)
    (line, _) = [line for line in section(table, results, tmp_path, "x").splitlines() if line.startswith(("| a, ", "| b, "))]
    assert [cell.strip() for cell in line.split("|")[3:-1]][::2] == ["65, 15 short", "rival: 5, 10 short", "90.0, 7.0 short"]
    results[2] = result("ours", 0, 0.6595)
    (line, _) = [line for line in section(table, results, tmp_path, "x").splitlines() if line.startswith(("| a, ", "| b, "))]
    assert line.split("|")[3].strip() == "80, less than 1 short"
    alone = section(table, results[:2], tmp_path, "x")
    assert "What was asked" not in alone, "the method was not measured"
    no_end = [r for r in results if r["method"] != "high"]
    assert "What was asked" not in section(table, no_end, tmp_path, "x")
