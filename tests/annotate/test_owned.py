from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from scribbleseg.annotate.owned import owned
from scribbleseg.data.vector import rasterise
from scribbleseg.records import UNLABELLED, Stroke

SIZE = (20, 30)
PLACE = st.tuples(st.integers(-20, 140), st.integers(-20, 110)).map(lambda p: (p[0] / 4, p[1] / 4))
STROKE = st.builds(
    lambda label, width, points, tool: Stroke(label, width / 2, np.array(points), tool),
    st.integers(0, 2),
    st.integers(1, 16),
    st.lists(PLACE, min_size=1, max_size=4),
    st.sampled_from(["brush", "brush", "eraser"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STROKE, max_size=6))
def test_the_pixels_of_all_strokes_are_the_labels(strokes: list[Stroke]) -> None:
    labels = rasterise(strokes, SIZE)
    drawn = np.full(SIZE, UNLABELLED, np.uint8)
    for each in owned(strokes, labels):
        assert (drawn.reshape(-1)[each.pixels] == UNLABELLED).all(), "no pixel belongs to two strokes"
        assert len(each.pixels)
        drawn.reshape(-1)[each.pixels] = each.label
    assert np.array_equal(drawn, labels)


def test_each_stroke_keeps_what_later_ones_leave() -> None:
    first, second = Stroke(0, 1.0, np.array([[2.5, 5.5], [12.5, 5.5]])), Stroke(1, 1.0, np.array([[7.5, 0.5], [7.5, 15.5]]))
    found = owned([first, second], rasterise([first, second], SIZE))
    assert [(each.label, len(each.pixels)) for each in found] == [(0, 10), (1, 16)]
    twice = owned([first, second, second], rasterise([first, second], SIZE))
    assert [each.key for each in twice] == [each.key for each in found]


def test_a_mask_that_came_with_the_image_is_taken_piece_by_piece() -> None:
    labels = np.full(SIZE, UNLABELLED, np.uint8)
    labels[2:4, 2:9] = 1
    labels[10:12, 2:9] = 1
    stroke = Stroke(0, 1.0, np.array([[15.5, 0.5], [15.5, 15.5]]))
    labels[:16, 15] = 0
    found = owned([stroke], labels)
    assert [(each.label, len(each.pixels)) for each in found] == [(0, 16), (1, 14), (1, 14)]
    assert len({each.key for each in found}) == 3


@pytest.mark.parametrize("line", [[[-50.0, -50.0], [-40.0, -9.0]], [[400.0, 5.0]]])
def test_strokes_outside_have_no_pixels(line: list[list[float]]) -> None:
    assert owned([Stroke(0, 3.0, np.array(line))], np.full(SIZE, UNLABELLED, np.uint8)) == []
