from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from scipy import ndimage

from scribbleseg.cli import app
from scribbleseg.config import StrokesConfig
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, write_png
from scribbleseg.data.simulate import STYLES, run
from scribbleseg.data.simulate.fit import fitted, longest_inside
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.simulate.region import length_px, regions
from scribbleseg.data.simulate.run import Simulation, simulate_dataset
from scribbleseg.data.strokes import middle_of, redraw_strokes
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.data.vector import rasterise, read_strokes
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.records import UNLABELLED, Stroke
from tests.fake.datasets import make_dataset
from tests.fake.scans import scan_dataset

every_style = pytest.mark.parametrize("style", sorted(STYLES))

DOCS = Path(__file__).parents[2] / "docs"


def scene(seed: int = 0, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    """A mask with a background, a disc, a ring, thin vessels, specks and an unknown border."""
    y, x = np.mgrid[: size[0], : size[1]]
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    centre = rng.uniform(25, 40, 2)
    mask[np.hypot(y - centre[0], x - centre[1]) < 19] = UNLABELLED
    mask[np.hypot(y - centre[0], x - centre[1]) < 17] = 1
    mask[np.hypot(y - 50, x - 90) < 22] = 2
    mask[np.hypot(y - 50, x - 90) < 12] = 3
    mask[80:82, 5:115] = 4
    mask[:3, :3] = 5
    return mask


def drawn(mask: np.ndarray, style: str, seed: int = 0, **options: Any) -> list[Stroke]:
    return simulate(mask, STYLES[style], np.random.default_rng(seed), **options)


@every_style
class TestEveryStyle:
    @pytest.mark.parametrize("width_px", [1.0, 3.0, 7.5])
    def test_no_pixel_is_wrong_or_unknown(self, style, width_px):
        for seed in range(6):
            mask = scene(seed)
            labels = rasterise(drawn(mask, style, seed, width_px=width_px), mask.shape)
            assert (labels == mask)[labels != UNLABELLED].all()

    def test_every_region_that_is_large_enough_is_drawn_in(self, style):
        mask = scene()
        numbers, number = ndimage.label(mask != UNLABELLED)
        labels = rasterise(drawn(mask, style, min_area=60), mask.shape)
        assert set(np.unique(labels)) == {0, 1, 2, 3, 4, UNLABELLED}
        assert number == 2
        assert len(np.unique(numbers[labels != UNLABELLED])) == 2
        assert not [s for s in drawn(mask, style, min_area=300) if s.label in (4, 5)]

    def test_the_same_seed_gives_the_same_strokes_and_another_others(self, style):
        mask = scene()
        assert drawn(mask, style, 3) == drawn(mask, style, 3)
        assert drawn(mask, style, 3) != drawn(mask, style, 4)

    def test_strokes_are_few_and_no_wider_than_asked(self, style):
        mask = scene()
        strokes = drawn(mask, style, width_px=3.0)
        assert max(s.width_px for s in strokes) <= 3
        assert (rasterise(strokes, mask.shape) != UNLABELLED).mean() < 0.2
        assert all(np.isfinite(s.points).all() and len(s.points) for s in strokes)

    @pytest.mark.parametrize(
        "mask",
        [
            np.zeros((40, 50), np.uint8),
            np.full((40, 50), UNLABELLED, np.uint8),
            np.eye(60, dtype=np.uint8),
            np.indices((60, 60)).sum(0).astype(np.uint8) % 2,
            np.zeros((1, 400), np.uint8),
            np.zeros((400, 1), np.uint8),
            np.pad(np.zeros((2, 150), np.uint8), 5, constant_values=UNLABELLED),
        ],
        ids=["one class", "nothing known", "diagonal", "chessboard", "one row", "one column", "a thread"],
    )
    def test_strange_masks(self, style, mask):
        for seed in range(3):
            strokes = drawn(mask, style, seed)
            labels = rasterise(strokes, mask.shape)
            assert (labels == mask)[labels != UNLABELLED].all()
            assert bool(strokes) == any(True for _ in regions(mask, 150))

    def test_tiny_regions(self, style):
        mask = np.kron(np.random.default_rng(0).integers(0, 4, (12, 12)), np.ones((2, 3))).astype(np.uint8)
        for width_px in (1.0, 3.0):
            labels = rasterise(drawn(mask, style, min_area=1, width_px=width_px), mask.shape)
            assert (labels == mask)[labels != UNLABELLED].all()
            for region in regions(mask, 1):
                x, y = region.origin
                height, width = region.inside.shape
                here = np.pad(labels, 2, constant_values=UNLABELLED)[y + 2 : y + 2 + height, x + 2 : x + 2 + width]
                assert (here[region.inside] == region.label).any()

    def test_it_is_in_the_docs_and_the_help(self, style):
        assert f"`{style}`" in (DOCS / "explanation" / "simulation.md").read_text(encoding="utf-8")
        (command,) = [c for c in app.registered_commands if c.callback is not None and c.callback.__name__ == "simulate"]
        assert command.callback is not None
        assert style in str(command.callback.__annotations__["style"])


class TestStyles:
    def test_points_are_dots(self):
        assert all(len(s.points) == 1 for s in drawn(scene(), "points"))

    def test_straight_lines_are_straight(self):
        for stroke in drawn(scene(), "straight"):
            assert len(stroke.points) <= 2

    def test_a_skeleton_runs_along_a_bar(self):
        mask = np.zeros((60, 200), np.uint8)
        mask[20:40, 10:190] = 1
        (stroke,) = [s for s in drawn(mask, "skeleton") if s.label == 1]
        assert np.ptp(stroke.points[:, 0]) > max(60, 3 * np.ptp(stroke.points[:, 1]))

    def test_a_geodesic_keeps_away_from_the_border(self):
        mask = np.zeros((80, 80), np.uint8)
        depth = ndimage.distance_transform_edt(np.pad(mask == 0, 1))[1:-1, 1:-1]

        def distance(style: str) -> float:
            labels = [rasterise(drawn(mask, style, seed), mask.shape) for seed in range(8)]
            return float(np.mean([depth[own == 0].mean() for own in labels]))

        assert distance("geodesic") > distance("border")

    def test_a_geodesic_stays_in_a_window_of_a_large_region(self):
        for seed in range(5):
            (stroke,) = drawn(np.zeros((500, 700), np.uint8), "geodesic", seed)
            assert np.ptp(stroke.points, axis=0).max() < 260

    def test_a_border_stroke_runs_along_objects_not_along_the_image(self):
        mask = np.zeros((120, 160), np.uint8)
        mask[np.hypot(*(np.mgrid[:120, :160] - np.array([[[60]], [[80]]]))) < 30] = 1
        to_object = ndimage.distance_transform_edt(mask == 0)
        for seed in range(5):
            along = drawn(mask, "border", seed)[1]
            columns, rows = np.floor(along.points).astype(int).T
            assert along.label == 0
            assert to_object[rows, columns].max() < 10

    def test_a_person_draws_the_background_near_the_object(self):
        mask = np.zeros((200, 240), np.uint8)
        mask[np.hypot(*(np.mgrid[:200, :240] - np.array([[[100]], [[120]]]))) < 25] = 1
        to_object = ndimage.distance_transform_edt(mask == 0)

        def distance(style: str) -> float:
            labels = [rasterise(drawn(mask, style, seed), mask.shape) for seed in range(8)]
            return float(np.mean([to_object[own == 0].mean() for own in labels]))

        assert distance("person") < 0.5 * distance("geodesic")


class TestFit:
    def region(self) -> Any:
        mask = np.zeros((30, 40), np.uint8)
        mask[5:25, 5:35] = 1
        return next(r for r in regions(mask, 1) if r.label == 1)

    def test_a_line_inside_is_left_alone(self):
        region = self.region()
        line = np.array([[8.5, 12.5], [20.5, 15.25]])
        points, width = fitted(line, region, 3.0)
        assert np.array_equal(points, line)
        assert width == 3

    def test_the_longest_part_inside_is_kept(self):
        region = self.region()
        line = np.stack([np.linspace(-4, 24, 29), np.full(29, 10.5)], axis=1)
        points, _ = fitted(line, region, 3.0)
        inside = rasterise([Stroke(0, 3.0, points)], region.inside.shape) == 0
        assert region.inside[inside].all()
        assert 18 < length_px(points) < 24

    def test_a_line_outside_leaves_nothing(self):
        region = self.region()
        for away in (-100.0, 100.0):
            line = np.array([[away, 5.0], [away, 15.0]])
            assert not len(longest_inside(line, region.inside, 1.0))
            points, width = fitted(line, region, 3.0)
            assert len(points) == width == 1

    def test_a_line_around_the_cut_out_is_not_taken_for_inside(self):
        region = self.region()
        height, width = region.inside.shape
        for line in ([[-5, -5], [width + 5, -5]], [[-9, height / 2], [-9, height / 2 + 1]], [[5, height + 3], [9, height + 3]]):
            assert not len(longest_inside(np.array(line, float), region.inside, 1.0))


class TestWorseStrokes:
    STROKES: ClassVar = [Stroke(k % 3, 3.0, np.array([[0.0, k], [4.0, k], [10.0, k]])) for k in range(200)]

    def redraw(self, stem: str = "a", **numbers: Any) -> list[Stroke]:
        return redraw_strokes(self.STROKES, stem, config=StrokesConfig(**numbers), num_classes=3)

    def test_nothing_asked_nothing_done(self):
        assert self.redraw() == self.STROKES

    @pytest.mark.parametrize(
        ("share", "left"),
        [(1, [[0, 1], [4, 1], [10, 1]]), (0.5, [[2.5, 1], [4, 1], [7.5, 1]]), (0.1, [[4.5, 1], [5.5, 1]]), (0, [[5, 1]])],
    )
    def test_the_middle_is_kept(self, share, left):
        assert np.allclose(middle_of(self.STROKES[1].points, share), left)

    def test_dots_stay(self):
        assert middle_of(np.array([[1.0, 2.0]]), 0.3).tolist() == [[1, 2]]

    def test_chances(self):
        assert 70 < len(self.redraw(drop=0.5)) < 130
        assert not self.redraw(drop=1)
        wrong = [a.label != b.label for a, b in zip(self.redraw(wrong=0.3), self.STROKES, strict=True)]
        assert 0.2 < np.mean(wrong) < 0.4

    def test_those_lost_at_a_small_chance_are_lost_at_a_larger_one(self):
        few, many = self.redraw(drop=0.6), self.redraw(drop=0.3)
        assert all(any(s == other for other in many) for s in few)
        assert self.redraw("b", drop=0.3) != many


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", num_images=6, size=(60, 80))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestDataSet:
    def test_the_outcome_is_a_data_set_to_train_on(self, root):
        out = simulate_dataset(root, Simulation("straight", seed=2))
        assert out == root / "simulated" / "straight-2"
        made = open_dataset(out)
        stems = made.stems("train")
        assert (check_training_labels(made, stems, "scribbles").pixels > 0).all()
        for stem in (*stems, *made.stems("test")):
            labels, mask = made.labels(stem, "scribbles", (60, 80)), made.labels(stem, "masks", (60, 80))
            assert (labels == mask)[labels != UNLABELLED].all()
            assert made.image_path(stem).samefile(root / "images" / f"{stem}.png")
            strokes, size = read_strokes(out / "strokes" / f"{stem}.json")
            assert np.array_equal(rasterise(strokes, size), read_index(out / "scribbles" / f"{stem}.png"))

    def test_it_is_elsewhere_behind_a_link_and_has_volumes(self, tmp_path):
        real = make_dataset(tmp_path / "real" / "deep" / "data", num_volumes=2, unlabelled=9)
        (tmp_path / "link").symlink_to(real)
        out = simulate_dataset(tmp_path / "link", Simulation("points"), out=tmp_path / "out")
        made = open_dataset(out)
        assert made.rgb(made.stems("train")[0]).ndim == 3
        assert made.volume_of("volume01_001") == "volume01"
        assert 0 < (made.labels(made.stems("train")[0], "scribbles") != UNLABELLED).sum() < 100

    def test_order_number_and_workers_change_nothing(self, root, tmp_path):
        wanted = Simulation("person", seed=5, min_area=60)
        simulate_dataset(root, wanted, out=tmp_path / "one")
        simulate_dataset(root, wanted, out=tmp_path / "two", jobs=2)
        (root / "splits" / "train.txt").write_text("image_001\nimage_000\n")
        simulate_dataset(root, wanted, out=tmp_path / "few", splits=["train"])
        one = contents(tmp_path / "one")
        assert contents(tmp_path / "two") == one
        few = contents(tmp_path / "few")
        assert len(few) == 2 + 2 * 2
        assert all(one[name] == content for name, content in few.items() if name != "dataset.yaml")

    def test_what_was_interrupted_goes_on(self, root, tmp_path, monkeypatch):
        wanted, seen = Simulation("straight"), []

        def stop(done: int, all_: int) -> None:
            seen.append(done)
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            simulate_dataset(root, wanted, out=tmp_path / "out", progress=stop)
        assert not (tmp_path / "out" / "dataset.yaml").exists()
        drawn_on: list[str] = []
        original = run._draw
        monkeypatch.setattr(run, "_draw", lambda *given: (drawn_on.append(given[-1]), original(*given))[1])
        simulate_dataset(root, wanted, out=tmp_path / "out")
        assert len(drawn_on) == 4
        monkeypatch.undo()
        simulate_dataset(root, wanted, out=tmp_path / "whole")
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_other_settings_want_another_folder(self, root, tmp_path):
        simulate_dataset(root, Simulation("points"), out=tmp_path / "out")
        before = contents(tmp_path / "out")
        with pytest.raises(ConfigError, match="--out"):
            simulate_dataset(root, Simulation("points", seed=1), out=tmp_path / "out")
        assert contents(tmp_path / "out") == before
        with pytest.raises(ConfigError, match="a new folder"):
            simulate_dataset(root, Simulation("points"), out=root)

    def test_worse_strokes_on_request(self, root, tmp_path):
        made = {
            name: open_dataset(simulate_dataset(root, Simulation("straight", **more), out=tmp_path / name))
            for name, more in {"all": {}, "short": {"length": 0.3}, "few": {"drop": 0.5}, "wrong": {"wrong": 1.0}}.items()
        }

        def pixels(name: str) -> int:
            return sum(int((made[name].labels(f"image_{n:03d}", "scribbles") != UNLABELLED).sum()) for n in range(6))

        assert pixels("short") < 0.5 * pixels("all")
        assert pixels("few") < 0.9 * pixels("all")
        assert pixels("wrong") == pixels("all")
        labels, mask = made["wrong"].labels("image_000", "scribbles"), made["wrong"].labels("image_000", "masks")
        assert (labels != mask)[labels != UNLABELLED].all()
        labels = made["short"].labels("image_000", "scribbles")
        assert (labels == mask)[labels != UNLABELLED].all()

    def test_a_data_set_without_masks(self, tmp_path):
        with pytest.raises(DataError, match="masks"):
            simulate_dataset(make_dataset(tmp_path / "data", with_masks=False), Simulation("points"))

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_a_broken_mask_is_named(self, root, jobs):
        write_png(root / "masks" / "image_001.png", np.full((60, 80), 77, np.uint8))
        with pytest.raises(DataError, match=r"image_001\.png"):
            simulate_dataset(root, Simulation("points"), jobs=jobs)
        assert not list(root.rglob("*.part"))

    @pytest.mark.parametrize("wanted", [{"style": "skeletton"}, {"style": "points", "width_px": 0}])
    def test_settings_that_are_none(self, wanted):
        with pytest.raises(ConfigError, match="skeleton|width"):
            Simulation(**wanted)

    def test_without_scikit_image(self, root, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage", None)
        for part in ("graph", "morphology", "measure"):
            monkeypatch.setitem(sys.modules, f"skimage.{part}", None)
        with pytest.raises(ConfigError, match=r"scribbleseg\[simulate\]"):
            simulate_dataset(root, Simulation("geodesic"), out=root / "a")
        simulate_dataset(root, Simulation("walk"), out=root / "b")

    def test_settings_are_kept_beside_it(self, root):
        out = simulate_dataset(root, Simulation("points", seed=4, drop=0.25))
        settings = json.loads((out / "simulation.json").read_text())
        assert settings["style"] == "points"
        assert (settings["seed"], settings["drop"]) == (4, 0.25)
        assert yaml.safe_load((out / "dataset.yaml").read_text())["name"] == "fake, points strokes"


def test_slices_of_stacks_keep_how_their_images_are_read(tmp_path):
    made = open_dataset(simulate_dataset(scan_dataset(tmp_path / "scans"), Simulation("points"), out=tmp_path / "made"))
    source = open_dataset(tmp_path / "scans")
    stems = made.stems("train")
    assert stems == source.stems("train")
    assert made.spec.reading == source.spec.reading
    for stem in stems:
        assert np.array_equal(made.rgb(stem), source.rgb(stem))
        drawn = made.labels(stem, "scribbles", made.size(stem))
        assert (drawn != 255).any()
        assert (drawn == source.labels(stem, "masks"))[drawn != 255].all()
