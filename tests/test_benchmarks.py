"""The benchmarks run, fail on a wrong number, and the page says what their files say. Nothing here asserts a time."""

from __future__ import annotations

import json
import os
from importlib import import_module

import pytest
import torch

from benchmarks.ops import all as everything, measure, page, record
from benchmarks.ops.measure import Case
from scribbleseg.evaluate import evaluate
from scribbleseg.scores import summary
from tests.fake.datasets import make_dataset
from tests.fake.models import make_model

OPS = list(everything.OPS)
#: What the benchmarks of a training run are told to be short.
TRAINING = {
    "step": {"threads": 1, "rounds": 1, "seconds": 1e-4, "size": 64, "batch": 1, "quick": True},
    "loading": {"rounds": 1, "workers": 1, "size": 32, "batch": 2, "batches": 3, "quick": True},
    "start": {"rounds": 1},
    "check_rate": {"few": 4, "many": 12, "size": 32},
    "streaming": {"small": 40, "size": 48, "rounds": 1, "seconds": 0.05},
    "predict_rate": {"images": 3, "size": 32, "window": 32, "rounds": 1},
    "large_picture": {"side": 400, "small": 330, "window": 64, "outputs": "mask,overlay,probabilities"},
}
#: A side of each op that runs everywhere.
PORTABLE = {"windowed": "torch", "dense": "exact_torch", "tree": "torch"}

MADE = {
    "machine": {"processor": "a processor", "cores": 2, "threads": 2, "accelerator": "an accelerator"},
    "packages": {"torch": "2"},
    "python": "3",
    "commit": "abc",
    "date": "2026-01-01T00",
}

needs_high_water = pytest.mark.skipif(not measure.HIGH_WATER.exists(), reason="only Linux tells a process's highest memory")


@pytest.fixture(autouse=True)
def no_peers(monkeypatch):
    monkeypatch.delenv("PEERS_DIR", raising=False)


@pytest.fixture(scope="module", params=OPS)
def measured(request):
    """An op's module and its result on tiny maps."""
    module = import_module(f"benchmarks.ops.{request.param}")
    before = torch.get_num_threads()
    result = module.run(threads=1, rounds=1, seconds=1e-4, quick=True)
    assert torch.get_num_threads() == before
    return module, result


def test_every_backend_is_timed_and_right(measured):
    module, result = measured
    assert result["rows"]
    for row in result["rows"]:
        case = Case(**row["sizes"])
        assert set(module.available(case)) <= set(row["sides"])
        for name in module.available(case):
            side = row["sides"][name]
            assert 0 < side["ms"][0] <= side["ms"][1] <= side["ms"][2]
            assert all(error < 1e-4 for error in side["errors"].values()), name  # the plain baselines too
    for line in result["curves"].values():
        assert all(len(points) == len(line["x"]) for points in line["sides"].values())


def test_without_peers_their_rows_are_left_out_with_a_note(measured, tmp_path):
    _, result = measured
    assert not {"unfold", "rloss"} & {name for row in result["rows"] for name in row["sides"]}
    found = page.read("x", record.save("x", result, tmp_path / "x.json").parent)
    assert "left out: WSL4MIS" in page.origin(found)


def test_page_says_what_the_file_says(measured, tmp_path):
    module, result = measured
    result = json.loads(json.dumps(result))
    op = module.__name__.rpartition(".")[2]
    result["rows"][0]["sides"][PORTABLE[op]]["ms"] = [122.0, 123.0, 777.0]
    record.save(op, result, tmp_path / measure.RESULTS.name / f"{op}.json")
    parts = everything.parts(tmp_path, tmp_path / "images")
    assert "123 [122, 777]" in "\n".join(parts[op])
    assert (tmp_path / "images" / f"{op}-scaling.svg").stat().st_size > 1000
    assert all("Not measured yet" in parts[other][0] for other in OPS if other != op)
    missed = [target for target in module.targets(result) if not target.met]
    assert sum(line.startswith("- ") for line in parts["short"]) == len(missed)


@pytest.fixture(scope="module", params=everything.TRAINING)
def measured_run(request):
    """A part of a training run, its module and its result."""
    module = import_module(f"benchmarks.{request.param}")
    return request.param, module, module.run(**TRAINING[request.param])


def test_page_says_what_the_file_of_a_training_run_says(measured_run, tmp_path):
    name, module, result = measured_run
    record.save(name, result, tmp_path / f"{name}.json")
    parts = everything.parts(tmp_path, tmp_path / "images")
    targets = module.targets(json.loads(json.dumps(result)))
    assert targets
    assert all(f"| {target.text} | " in "\n".join(parts[name]) for target in targets)
    assert sum(line.startswith("- ") for line in parts["short"]) == sum(not target.met for target in targets)
    assert all("Not measured yet" in parts[other][0] for other in everything.TRAINING if other != name)


def test_what_is_measured_of_a_training_run(measured_run):
    name, module, result = measured_run
    if name == "step":
        assert {module.STEP, "static kernel, portable", "DFR, portable"} <= set(result["sides"])
        assert result["sides"][module.STEP]["share"] == [1.0] * 3
        assert all(side["ms"][0] > 0 and side["share"][0] > 0 for side in result["sides"].values())
        assert not any("unfold" in side for side in result["sides"])  # it is a peer's
    elif name == "loading":
        assert result["per_core"][0] > 0
        assert 0 < result["waited"][0] <= result["waited"][2] <= 1
    elif name == "streaming":
        (only,) = result["sets"]
        assert [row["workers"] for row in only["rows"]] == [0, 1, 2]
        for row in only["rows"]:
            assert set(row["sides"]) == {"folder", "shards"}, "no environment of the peers was named"
            assert all(side[state]["rate"][0] > 0 for side in row["sides"].values() for state in ("cold", "warm"))
        assert "torchvision: no --peer_python was given" in "\n".join(module.tables({**result, "provenance": MADE}))
    elif name == "predict_rate":
        assert set(result["rates"]) == {"plain loop", "predict"}
        assert result["different"] <= module.DIFFERENT
        assert all(ratio > 0 for ratio in result["ratios"])
    elif name == "large_picture":
        assert [row["side"] for row in result["rows"]] == [330, 400]
        assert all(row["agrees"] > 0.999 and row["peak_mib"] > 0 and len(row["mib_out"]) == 3 for row in result["rows"])
    elif name == "check_rate":
        assert [(row["images"], row["quick"]) for row in result["rows"]] == [(4, False), (4, True), (12, False), (12, True)]
        assert all(row["rate"] > 0 and row["peak_mib"] > 0 and row["worker_mib"] > 0 for row in result["rows"])
    else:
        assert set(module.PROMISED) < set(result["seconds"])
        assert all(seconds[0] > 0 for seconds in result["seconds"].values())


def test_a_wrong_gradient_stops_the_step(monkeypatch):
    step = import_module("benchmarks.step")
    right = step.regularizer

    def slightly_off(*arguments, double=False, **options):
        call = right(*arguments, double=double, **options)
        return call if double else lambda: tuple(x * (1 + 1e-4) for x in call())

    monkeypatch.setattr(step, "regularizer", slightly_off)
    with pytest.raises(ArithmeticError, match=r"static, \w+ on the batch"):
        step.run(**TRAINING["step"])


def test_page_is_made_from_the_files_in_the_repository(tmp_path):
    text = page.PAGE.read_text(encoding="utf-8")
    for name, body in everything.parts(images=tmp_path).items():
        assert page.put(text, name, body) == text, f"{name}: run `python -m benchmarks.ops.all write`"


@pytest.mark.parametrize("op", OPS)
def test_a_wrong_number_stops_the_benchmark(op, monkeypatch):
    module = import_module(f"benchmarks.ops.{op}")
    case = Case(1, 3, 12, 2)
    name = PORTABLE[op]
    make = module.SIDES[name]

    def slightly_off(case):
        call = make(case)
        return lambda: tuple(x * (1 + 1e-4) for x in call())

    module.check(case)
    monkeypatch.setitem(module.SIDES, name, slightly_off)
    with pytest.raises(ArithmeticError, match=f"{name} on"):
        module.check(case)


def test_errors_of_approximations_are_those_against_all_pairs():
    dense = import_module("benchmarks.ops.dense")
    sides = dense.approximations(Case(1, 3, 16, features=1))["sides"]
    assert 1e-9 < sides["low_rank"]["scores"] < 1e-3  # as many landmarks as pixels: exact but for rounding and the ridge
    assert 1e-3 < sides["lattice"]["scores"] < 0.5
    assert set(sides["low_rank"]) == {"energy", "scores", "features"}


def test_a_loss_that_does_not_agree_stops_the_comparison(monkeypatch):
    agree = import_module("benchmarks.ops.agree")
    rows = agree.run(threads=1, size=12)["rows"]
    assert len(rows) == 2  # without peers: the normalized cut's definition, with and without padding
    assert all(set(row["bound"]) == {"value", "gradient"} for row in rows)
    assert "(bound)" in "\n".join(page.agreement({"provenance": MADE, "rows": rows, "tolerance": 1e-5}))
    right = agree.cut
    monkeypatch.setattr(agree, "cut", lambda *arguments: 1.0001 * right(*arguments))
    with pytest.raises(ArithmeticError, match="Normalized cut"):
        agree.run(threads=1, size=12)


def test_page_of_the_gpu():
    side = {"ms": [1.0, 2.0, 3.0], "to_triton": 40.0, "extra_mib": 3.0}
    sizes = {"batch": 1, "classes": 4, "size": 512, "radius": 5, "features": 0}  # a copy of the scores has 4 MiB
    row = {"case": "a case", "sizes": sizes, "floor_ms": 0.5, "errors": {"bilinear": {"value": 3e-7}}, "inputs_mib": 7.0}
    row |= {"sides": {"triton": side | {"to_triton": 1.0, "extra_mib": 11.0}, "unfold": side}, "triton_over_floor": 4.5}
    text = "\n".join(page.gpu({"provenance": MADE, "rows": [row]}))
    assert "an accelerator" in text
    assert "| a case: Triton over the floor | ≤ 4 × | 4.50 × | **no** |" in text
    assert "| a case: faster than the unfold | ≥ 30 × | 40.0 × | yes |" in text
    assert "in copies of the inputs | ≤ 2 | 2.00 | yes |" in text  # 7 of inputs and 11 more, 4 of which are the gradient
    row["sides"]["unfold"] = None
    assert "out of memory" in "\n".join(page.gpu({"provenance": MADE, "rows": [row]}))


def test_not_a_number_stops_it_too():
    with pytest.raises(ArithmeticError, match="gradient"):
        record.demand({"ours": {"value": 0.0, "gradient": float("nan")}}, 1e-5, "a case")


def test_sides_take_turns_and_get_their_threads_back():
    seen: list[tuple[str, int]] = []

    def rude() -> None:
        seen.append(("rude", torch.get_num_threads()))
        torch.set_num_threads(1)

    def ours() -> None:
        seen.append(("ours", torch.get_num_threads()))

    times = measure.interleave({"rude": rude, "ours": ours}, rounds=3, seconds=0.0, threads=2)
    assert torch.get_num_threads() == 1
    turns = [name for i, (name, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != name]
    assert turns == ["rude", "ours"] * 3
    assert {threads for name, threads in seen if name == "ours"} == {2}
    assert [len(times[name]) for name in ("rude", "ours")] == [3, 3]


def test_ratio_is_taken_within_rounds():
    slow_machine = 10.0  # in the second round everything takes ten times as long
    assert measure.ratio([[2.0], [2.0 * slow_machine], [2.0]], [[1.0], [1.0 * slow_machine], [1.0]]) == [2.0, 2.0, 2.0]
    assert measure.ratio([[3.0, 5.0, 4.0]], [[2.0]]) == [2.0, 2.0, 2.0]
    assert measure.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 3.0, 4.0]


def test_slope_of_a_power_law():
    x = [16.0, 64.0, 256.0]
    assert measure.slope(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)


def test_relative_errors():
    expected = torch.tensor([1.0, -4.0])
    assert measure.relative_error(torch.tensor([1.0, -3.0]), expected) == 0.25
    assert measure.relative_error(torch.tensor([0.5]), torch.zeros(1)) == 0.5
    assert measure.relative_distance(torch.tensor([1.0, -4.0 + 17**0.5]), expected) == pytest.approx(1.0)


FAKE_BENCHMARK = """
import torch

MEGABYTE = 2**20 // 4


def make(case):
    kept = torch.ones(32 * MEGABYTE)  # an input: there before, so not counted

    def call():
        torch.ones(64 * MEGABYTE).sum()  # gone again at the end, but it was there
        return (torch.ones(16 * MEGABYTE), kept)

    return call if case.size > 16 else lambda: (kept,)


SIDES = {"side": make}
"""


@needs_high_water
def test_memory_is_the_highest_point_above_the_inputs(tmp_path, monkeypatch):
    (tmp_path / "a_fake_benchmark.py").write_text(FAKE_BENCHMARK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert measure.extra_memory("a_fake_benchmark", "side", Case(1, 2, 32), 1) == pytest.approx(64, abs=4)


@needs_high_water
def test_memory_is_measured_in_another_process():
    assert measure.extra_memory("benchmarks.ops.windowed", "torch", Case(1, 21, 64, 1), 1) < 64


def test_a_curve_ends_where_a_side_takes_too_long(monkeypatch):
    makers = {"fast": lambda case: lambda: (), "slow": lambda case: lambda: ()}
    monkeypatch.setattr(record, "milliseconds", lambda rounds: [1.0] * 3)
    numbers = {"rounds": 1, "seconds": 0.0, "threads": 1}
    base = Case(1, 2, 8)
    monkeypatch.setattr(record, "LONGEST", 4.0)  # twice the side is four times the pixels, four times the side sixteen
    found = record.curves(makers, lambda case: list(makers), base, {"size": (8, 16, 64, 128)}, **numbers)
    assert [p is not None for p in found["size"]["sides"]["slow"]] == [True, True, False, False]


def test_targets_say_whether_they_are_met():
    assert record.Target("faster", 61, 60).met
    assert not record.Target("faster", 59, 60).met
    assert record.Target("smaller", 2.9, 3, at_least=False).met
    lines = page.targets_table([record.Target("smaller", 3.2, 3, at_least=False)])
    assert lines[-1] == "| smaller | ≤ 3 × | 3.20 × | **no** |"


def test_what_falls_short_is_said():
    kept, missed = record.Target("kept", 61, 60), record.Target("missed", 0.5, 60)
    assert page.short([kept, missed]) == ["1 of 2 targets:", "", "- missed: 0.5 instead of ≥ 60 ×"]
    assert page.short([kept]) == ["Nothing: all 1 targets are met."]


def test_only_what_is_between_the_marks_changes():
    text = "a <!-- x: begin -->old<!-- x: end --> b <!-- y: begin -->kept<!-- y: end -->"
    new = page.put(text, "x", ["new", "lines"])
    assert new == "a <!-- x: begin -->\n\nnew\nlines\n\n<!-- x: end --> b <!-- y: begin -->kept<!-- y: end -->"
    assert page.put(new, "x", ["new", "lines"]) == new


def test_what_refinement_gained_is_counted_and_told(tmp_path, monkeypatch, capsys):
    gain = import_module("benchmarks.refine_gain")
    root = make_dataset(tmp_path / "fake", num_images=6, size=(24, 30))
    run = tmp_path / "runs" / "fake--a_net--DFR--0"
    make_model(run / "model")
    (tmp_path / "refine.md").write_text("# Page\n<!-- refine gain: begin -->\nnothing yet\n<!-- refine gain: end -->\nend\n")
    own = ["--out", str(tmp_path / "gain.json"), "--page", str(tmp_path / "refine.md")]
    for split in ("train", "train", "val"):
        words = ["x", "run", "--run", str(run), "--data", str(root), "--split", split]
        monkeypatch.setattr("sys.argv", [*words, *own])
        gain.main()
    result = json.loads((tmp_path / "gain.json").read_text())
    assert [row["split"] for row in result["rows"]] == ["train", "val"], "the same again takes the place of the first"
    methods = result["rows"][0]["methods"]
    assert set(methods) == {"none", "dense_crf", "tree", "window"}
    plain = summary(evaluate(run, root, split="train"))
    assert methods["none"]["miou"] == pytest.approx(plain["miou"])
    assert methods["none"]["border_miou"] == pytest.approx(plain["border_miou"])
    refined = summary(evaluate(run, root, split="train", refine="tree"))
    assert methods["tree"]["miou_gain"]["difference"] == pytest.approx(refined["miou"] - plain["miou"])
    low, high = methods["tree"]["miou_gain"]["interval"]
    assert low <= high
    monkeypatch.setattr("sys.argv", ["x", "write", *own])
    gain.main()
    text = (tmp_path / "refine.md").read_text()
    assert "| fake, train," in text
    assert "a net, DFR" in text
    assert text.endswith("end\n")
    assert "nothing yet" not in text
