from __future__ import annotations

import numpy as np

from scribbleseg.annotate.places import Seen, frames_of, rank

SIZE = (200, 300)


def seen(image: int, doubt: np.ndarray, strokes: list[tuple[int, int]] | None = None, seed: int = 0) -> Seen:
    height, width = doubt.shape
    labels = np.random.default_rng(seed).integers(0, 2, doubt.shape).astype(np.uint8)
    colours = np.random.default_rng(seed).random((height, width, 3), np.float32)
    return Seen(image, SIZE, labels, doubt, np.array(strokes or np.zeros((0, 2)), int), colours)


def bumps(*places: tuple[int, int], height: int = 255) -> np.ndarray:
    doubt = np.zeros((100, 150), np.uint8)
    for row, column in places:
        doubt[row - 10 : row + 10, column - 10 : column + 10] = height
    return doubt


def test_the_most_doubtful_frame_comes_first_in_pixels_of_the_image() -> None:
    best = rank([seen(4, bumps((30, 40)))], 3)[0]
    assert best.image == 4
    assert best.x0 <= 80 <= best.x1
    assert best.y0 <= 60 <= best.y1
    assert best.doubt > 0.5


def test_doubt_next_to_a_stroke_counts_less() -> None:
    doubt = bumps((30, 30), (70, 120))
    assert rank([seen(1, doubt)], 1)
    for near, far in (((60, 60), (140, 240)), ((140, 240), (60, 60))):
        best = rank([seen(1, doubt, [near])], 1)[0]
        assert best.y0 <= far[0] <= best.y1
        assert best.x0 <= far[1] <= best.x1


def test_frames_do_not_overlap_and_images_that_differ_share_them() -> None:
    images = [seen(1, bumps((30, 40), (70, 110)), seed=1), seen(2, bumps((50, 60), height=200), seed=2)]
    found = rank(images, 6)
    assert {place.image for place in found[:3]} == {1, 2}
    for n, one in enumerate(found):
        for other in found[:n]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
            assert one.image != other.image or apart


def test_frames_cover_the_image() -> None:
    for size in ((200, 300), (31, 17), (64, 2000)):
        covered = np.zeros(size, bool)
        for x0, y0, x1, y1 in frames_of(size):
            assert 0 <= x0 < x1 <= size[1]
            assert 0 <= y0 < y1 <= size[0]
            covered[y0:y1, x0:x1] = True
        assert covered.all()


def test_without_doubt_there_is_no_place() -> None:
    assert rank([seen(1, np.zeros((100, 150), np.uint8))], 5) == []
    assert rank([], 5) == []
