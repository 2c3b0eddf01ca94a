from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from scribbleseg.data import vector
from scribbleseg.data.vector import rasterise, read_strokes, write_strokes
from scribbleseg.errors import DataError, ScribblesegError, StorageError
from scribbleseg.records import UNLABELLED, Stroke
from tests.reference.strokes import rasterise as truth

SIZE = (11, 14)
brief = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])

short = st.integers(-5 * 8, 18 * 8).map(lambda n: n / 8)  # multiples of 1/8 px: pixels exactly at the border are common
anywhere = (st.floats(-30, 40) | st.floats(-1e6, 1e6)).map(lambda x: round(x * 2**20) / 2**20)
widths = st.sampled_from([0.01, 0.5, 1.0, 2.0, 3.0, 4.0, 5.5, 9.0]) | st.integers(1, 12 * 1024).map(lambda n: n / 1024)


def strokes_with(place: st.SearchStrategy[float], most: int = 4) -> st.SearchStrategy[list[Stroke]]:
    points = st.lists(st.tuples(place, place), min_size=1, max_size=6).map(lambda p: np.array(p, np.float64))
    tool = st.sampled_from(["brush", "brush", "eraser"])
    return st.lists(st.builds(Stroke, st.integers(0, 5), widths, points, tool), max_size=most)


def line(*points: tuple[float, float], width: float = 1.0, label: int = 1, **more: Any) -> Stroke:
    return Stroke(label, width, np.array(points, np.float64).reshape(-1, 2), **more)


def drawn(*strokes: Stroke, size: tuple[int, int] = SIZE, width_px: float | None = None) -> set[tuple[int, int]]:
    """The labelled pixels, as (x, y)."""
    y, x = np.nonzero(rasterise(strokes, size, width_px) != UNLABELLED)
    return set(zip(x.tolist(), y.tolist(), strict=True))


class TestAgainstTheTruth:
    @brief
    @given(strokes_with(short), st.none() | widths)
    def test_where_pixels_lie_exactly_at_the_border_of_strokes(self, strokes, width_px):
        assert np.array_equal(rasterise(strokes, SIZE, width_px), truth(strokes, SIZE, width_px))

    @brief
    @given(strokes_with(anywhere, most=2))
    def test_anywhere(self, strokes):
        assert np.array_equal(rasterise(strokes, (7, 9)), truth(strokes, (7, 9)))

    @pytest.mark.parametrize("chunk", [1, 5, 40])
    def test_whatever_is_worked_on_at_a_time(self, monkeypatch, chunk):
        rng = np.random.default_rng(0)
        strokes = [Stroke(n, 0.5 + 2 * n, rng.uniform(-5, 25, (9, 2))) for n in range(3)]
        whole = rasterise(strokes, (20, 20))
        monkeypatch.setattr(vector, "CHUNK", chunk)
        assert np.array_equal(rasterise(strokes, (20, 20)), whole)
        assert np.array_equal(truth(strokes, (20, 20)), whole)


class TestInvariances:
    @brief
    @given(strokes_with(short))
    def test_flips_and_transposes_bit_for_bit(self, strokes):
        labels = rasterise(strokes, SIZE)

        def moved(change: Any) -> list[Stroke]:
            return [replace(s, points=np.stack(change(*s.points.T), axis=1)) for s in strokes]

        assert np.array_equal(rasterise(moved(lambda x, y: (SIZE[1] - x, y)), SIZE), labels[:, ::-1])
        assert np.array_equal(rasterise(moved(lambda x, y: (x, SIZE[0] - y)), SIZE), labels[::-1])
        assert np.array_equal(rasterise(moved(lambda x, y: (y, x)), SIZE[::-1]), labels.T)
        assert np.array_equal(rasterise(moved(lambda x, y: (x + 3, y + 2)), (SIZE[0] + 2, SIZE[1] + 3))[2:, 3:], labels)

    @brief
    @given(strokes_with(anywhere))
    def test_the_direction_of_a_stroke(self, strokes):
        backwards = [replace(s, points=s.points[::-1]) for s in strokes]
        assert np.array_equal(rasterise(backwards, SIZE), rasterise(strokes, SIZE))

    @brief
    @given(strokes_with(anywhere, most=1))
    def test_a_larger_image_shows_the_same(self, strokes):
        assert np.array_equal(rasterise(strokes, (30, 40))[: SIZE[0], : SIZE[1]], rasterise(strokes, SIZE))

    @brief
    @given(strokes_with(anywhere, most=1), widths, widths)
    def test_a_wider_brush_draws_more(self, strokes, one, other):
        brushes = [replace(s, tool="brush") for s in strokes]
        assert drawn(*brushes, width_px=min(one, other)) <= drawn(*brushes, width_px=max(one, other))

    def test_nothing_is_changed_in_place(self):
        points = np.array([[5.0, 5.0], [1.0, 1.0]])
        points.flags.writeable = False
        rasterise([Stroke(1, 3, points)], SIZE)
        assert points.tolist() == [[5.0, 5.0], [1.0, 1.0]]


class TestShapes:
    def test_a_dot_on_a_centre_is_one_pixel_at_widths_below_two(self):
        for width in (0.01, 1, 1.9):
            assert drawn(line((3.5, 2.5), width=width)) == {(3, 2)}

    def test_a_dot_on_a_corner_has_the_four_pixels_around_it(self):
        assert drawn(line((3, 2))) == {(2, 1), (3, 1), (2, 2), (3, 2)}

    def test_a_dot_of_width_two_is_a_cross_and_one_of_three_a_square(self):
        assert drawn(line((3.5, 2.5), width=2)) == {(3, 2), (2, 2), (4, 2), (3, 1), (3, 3)}
        assert drawn(line((3.5, 2.5), width=3)) == {(x, y) for x in (2, 3, 4) for y in (1, 2, 3)}

    def test_a_flat_line_of_odd_width_through_centres_is_as_wide_as_it_says(self):
        for width in (1, 3, 5):
            labels = rasterise([line((2.5, 5.5), (11.5, 5.5), width=width)], SIZE)
            assert (labels[:, 6] == 1).sum() == width

    @pytest.mark.parametrize("end", [(13.5, 0.5), (13.5, 3.5), (0.5, 10.5), (7.25, 10.9), (13.9, 10.1)])
    def test_a_thin_line_has_no_gaps(self, end):
        pixels = drawn(line((0.2, 0.3), end, width=0.01))
        reached, todo = set(), {min(pixels)}
        while todo:
            x, y = todo.pop()
            reached.add((x, y))
            todo |= {(x + i, y + j) for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))} & pixels - reached
        assert reached == pixels

    def test_points_outside_the_image(self):
        assert drawn(line((-3, 5.5), (40, 5.5))) == {(x, 5) for x in range(14)}
        assert drawn(line((-9, -9), (-3, 40))) == set()
        assert drawn(line((-2, 5.5), width=7)) == {(0, 3), (0, 4), (0, 5), (0, 6), (0, 7), (1, 5)}
        assert drawn(line((-1e6, -1e6), (1e6, 1e6))) >= {(k, k) for k in range(11)}

    def test_the_rows_of_a_line_that_leaves_do_not_come_back_on_the_other_side(self):
        assert drawn(line((13.9, 5.5), width=4)) == {(12, 4), (13, 4), (12, 5), (13, 5), (12, 6), (13, 6)}

    def test_no_strokes_and_no_points(self):
        assert drawn() == set()
        assert drawn(line()) == set()

    def test_later_strokes_lie_over_earlier_ones(self):
        labels = rasterise([line((0, 5.5), (14, 5.5), label=2), line((7.5, 0), (7.5, 11), label=4)], SIZE)
        assert labels[5, 7] == 4
        assert labels[5, 6] == labels[5, 8] == 2

    def test_an_eraser_takes_away_what_was_drawn_before_it(self):
        before, after = line((0, 5.5), (14, 5.5)), line((7.5, 0.5), label=3)
        rubber = line((7.5, 0), (7.5, 11), width=3, label=0, tool="eraser")
        labels = rasterise([before, rubber, after], SIZE)
        assert (labels[5, 6:9] == UNLABELLED).all()
        assert labels[5, 5] == labels[5, 9] == 1
        assert labels[0, 7] == 3

    def test_another_width_is_for_brushes_alone(self):
        pair = [line((0, 5.5), (14, 5.5), width=5), line((7.5, 5.5), width=5, tool="eraser")]
        assert np.array_equal(rasterise(pair, SIZE, 1), truth([replace(pair[0], width_px=1), pair[1]], SIZE))

    def test_a_very_long_stroke_on_a_large_image(self):
        turns = np.cumsum(np.random.default_rng(0).normal(0, 3, (30_000, 2)), axis=0) + 1500
        labels = rasterise([Stroke(1, 3, turns)], (3000, 3000))
        column, row = np.clip(np.floor(turns), 0, 2999).astype(int).T
        inside = ((turns > 1) & (turns < 2999)).all(axis=1)
        assert (labels[row, column] == 1)[inside].all()

    @pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 3)), np.array([[0, np.nan]]), np.array([[np.inf, 0]])])
    def test_points_that_are_none(self, points):
        with pytest.raises(DataError, match="mend the stroke"):
            rasterise([Stroke(1, 1, points)], SIZE)

    @pytest.mark.parametrize("width", [-1, np.nan, np.inf])
    def test_widths_that_are_none(self, width):
        with pytest.raises(DataError, match="a width"):
            rasterise([line((1, 1), width=width)], SIZE)


def test_strokes_are_equal_where_all_of_them_is():
    one = line((1, 2), (3, 4))
    assert one == line((1, 2), (3, 4))
    assert one != line((1, 2), (3, 5))
    assert one != line((1, 2))
    assert one != replace(one, author="me")
    assert one != "a stroke"


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
times = st.none() | st.datetimes().map(lambda t: t.isoformat())


class TestFiles:
    @brief
    @given(strokes_with(st.floats(-1e6, 1e6)), times, st.none() | text)
    def test_what_is_written_is_read(self, tmp_path, strokes, time, author):
        strokes = [replace(s, time=time, author=author) for s in strokes]
        write_strokes(tmp_path / "a.json", strokes, (30, 20))
        assert read_strokes(tmp_path / "a.json") == (tuple(strokes), (30, 20))

    def test_the_file_as_the_docs_show_it(self, tmp_path):
        write_strokes(tmp_path / "strokes" / "a.json", [line((1, 2), (3.5, 4), width=5, author="Zoë")], (375, 500))
        tree = json.loads((tmp_path / "strokes" / "a.json").read_text("utf-8"))
        stroke = {"class": 1, "width_px": 5, "tool": "brush", "points": [[1, 2], [3.5, 4]], "time": None, "author": "Zoë"}
        assert tree == {"version": 1, "size": [500, 375], "strokes": [stroke]}

    def test_a_drawing_without_strokes(self, tmp_path):
        write_strokes(tmp_path / "a.json", [], (1, 2))
        assert read_strokes(tmp_path / "a.json") == ((), (1, 2))

    def test_only_class_width_and_points_are_needed(self, tmp_path):
        self.put(tmp_path / "a.json", {"class": 3, "width_px": 2, "points": [[1, 2]]})
        assert read_strokes(tmp_path / "a.json")[0] == (line((1, 2), width=2, label=3),)

    def put(self, path: Path, *strokes: Any, **head: Any) -> Path:
        path.write_text(json.dumps({"version": 1, "size": [20, 30], "strokes": strokes} | head))
        return path

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("class", 255),
            ("class", -1),
            ("class", "1"),
            ("class", 1.5),
            ("class", True),
            ("width_px", 0),
            ("width_px", float("nan")),
            ("width_px", 1e9),
            ("tool", "rubber"),
            ("points", []),
            ("points", [[1, 2, 3]]),
            ("points", [[1]]),
            ("points", [[1, float("inf")]]),
            ("points", [[1, 1e7]]),
            ("points", "1,2"),
            ("time", "yesterday"),
            ("author", "x" * 201),
            ("colour", "red"),
        ],
    )
    def test_a_wrong_value_is_named(self, tmp_path, key, value):
        path = self.put(tmp_path / "a.json", {"class": 1, "width_px": 2, "points": [[1, 2]]} | {key: value})
        with pytest.raises(DataError) as error:
            read_strokes(path)
        assert str(path) in error.value.where
        assert key in error.value.where
        assert "dataset.md" in error.value.do

    @pytest.mark.parametrize("head", [{"version": 2}, {"size": [0, 5]}, {"size": [10**5, 10**5]}, {"size": [5]}, {"more": 1}])
    def test_a_wrong_head(self, tmp_path, head):
        with pytest.raises(DataError, match="a.json"):
            read_strokes(self.put(tmp_path / "a.json", **head))

    def test_too_many_points(self, tmp_path, monkeypatch):
        monkeypatch.setattr(vector, "MAX_POINTS", 10)
        stroke = {"class": 1, "width_px": 2, "points": [[1, 2]] * 6}
        with pytest.raises(DataError, match="at most 10 points"):
            read_strokes(self.put(tmp_path / "a.json", stroke, stroke))
        assert len(read_strokes(self.put(tmp_path / "a.json", stroke))[0]) == 1

    def test_too_large_a_file_is_not_read(self, tmp_path):
        with (tmp_path / "a.json").open("wb") as file:
            file.truncate(vector.MAX_BYTES + 1)
        with pytest.raises(DataError, match="at most 32 MiB"):
            read_strokes(tmp_path / "a.json")

    def test_no_file(self, tmp_path):
        with pytest.raises(DataError, match="No such file"):
            read_strokes(tmp_path / "a.json")

    def test_what_is_found_is_told_in_short(self, tmp_path):
        (tmp_path / "a.json").write_bytes(b"[" + b"1," * 10_000)
        with pytest.raises(DataError) as error:
            read_strokes(tmp_path / "a.json")
        assert len(str(error.value)) < 1000

    @pytest.mark.parametrize(
        "stroke", [line(), line((1, np.nan)), line((1, 1), width=0), line((1, 1), label=255), line((1, 1), tool="pen")]
    )
    def test_what_could_not_be_read_is_not_written(self, tmp_path, stroke):
        with pytest.raises(DataError, match="mend the stroke"):
            write_strokes(tmp_path / "a.json", [stroke], SIZE)
        assert not list(tmp_path.iterdir())

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError):
            write_strokes(tmp_path / "file" / "a.json", [], SIZE)

    @brief
    @given(st.binary(max_size=200))
    def test_any_bytes_give_one_error(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ScribblesegError):
            read_strokes(tmp_path / "a.json")

    @settings(brief, max_examples=150)
    @given(st.data())
    def test_any_tree_is_read_or_gives_one_error(self, tmp_path, data):
        junk = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        )
        points = st.lists(st.tuples(st.floats(), st.floats()), max_size=3) | junk
        fields = {"class": st.integers(-1, 256) | junk, "width_px": st.floats() | junk, "points": points}
        stroke = st.fixed_dictionaries(fields, optional={"tool": st.sampled_from(["brush", "eraser"]) | junk, "time": junk})
        self.put(tmp_path / "a.json", *data.draw(st.lists(stroke, max_size=3)))
        try:
            strokes, size = read_strokes(tmp_path / "a.json")
        except DataError:
            return
        labels = rasterise(strokes, size)
        assert set(np.unique(labels)) <= {UNLABELLED} | {s.label for s in strokes}


def test_strokes_that_would_take_minutes_are_refused_at_once():
    points = np.tile([[0.0, 0.0], [4000.0, 4000.0]], (5000, 1))
    hatched = Stroke(0, 4096.0, points, "brush", None, None)
    with pytest.raises(DataError, match="too many points for so wide a brush"):
        rasterise([hatched], (4096, 4096))
    dots = [Stroke(0, 4096.0, np.array([[2000.0, 2000.0]]), "brush", None, None)] * 5000
    with pytest.raises(DataError, match="too many points"):
        rasterise(iter(dots), (4096, 4096))
