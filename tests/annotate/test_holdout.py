from __future__ import annotations

import numpy as np
import pytest

from scribbleseg.annotate.features import NUM_FILTERS
from scribbleseg.annotate.holdout import FEWEST, Score, better, choose, instant_shares, network_shares, score
from scribbleseg.annotate.instant import Samples


def test_classes_count_alike_however_many_strokes_they_have() -> None:
    found = score([(0, 1.0)] * 9 + [(1, 0.0)])
    assert found.value == pytest.approx(0.5)
    assert (found.strokes, found.classes) == (10, 2)


@pytest.mark.parametrize("shares", [[(0, 1.0)] * 20, [(0, 1.0), (1, 1.0)], []])
def test_with_one_class_or_few_strokes_nothing_is_said(shares: list[tuple[int, float]]) -> None:
    assert score(shares).value is None


def test_a_quarter_of_each_class_is_held_out_and_none_of_a_rare_one() -> None:
    strokes = [(f"a{n}", 0) for n in range(20)] + [(f"b{n}", 1) for n in range(10)] + [("c", 2)]
    held = choose(strokes, np.random.default_rng(0))
    assert sum(key[0] == "a" for key in held) == 5
    assert sum(key[0] == "b" for key in held) == 2
    assert "c" not in held
    assert choose(strokes[:8] + strokes[20:22], np.random.default_rng(0)) == set()


def test_a_stroke_is_judged_by_what_was_learnt_from_others_only() -> None:
    rng = np.random.default_rng(0)

    def samples(label: int, place: float) -> Samples:
        features = rng.normal(0, 0.1, (30, NUM_FILTERS)).astype(np.float32)
        features[:, 0] += place
        return Samples(label, features)

    strokes = {f"a{n}": samples(0, 0.0) for n in range(5)} | {f"b{n}": samples(1, 5.0) for n in range(5)}
    strokes["odd"] = samples(1, 0.0)  # looks like the other class: only its own pixels could teach it
    shares = instant_shares(strokes, list(strokes), kind="linear")
    assert shares["odd"] < 0.2
    assert min(share for key, share in shares.items() if key != "odd") > 0.8


def test_a_network_is_judged_on_the_strokes_pixels() -> None:
    found = np.zeros((4, 5), np.uint8)
    found[2] = 1
    strokes = [("a", 0, np.arange(5)), ("b", 1, np.arange(8, 13))]
    assert network_shares({7: strokes}, lambda image: found) == {"a": 1.0, "b": 0.6}


def test_the_network_is_shown_only_where_it_is_better() -> None:
    good, poor, unknown = Score(0.9, 0.02, 12, 2), Score(0.8, 0.02, 12, 2), Score(None, float("nan"), 2, 1)
    assert better(good, poor)[0] == "network"
    assert "90 % against 80 %" in better(good, poor)[1]
    assert better(good, good)[0] == "instant"
    assert better(poor, good)[0] == "instant"
    assert better(None, poor)[0] == "instant"
    kind, why = better(unknown, poor)
    assert kind == "instant"
    assert "nothing can be said" in why
    assert str(FEWEST) in why
    assert "chance" in better(Score(0.81, 0.1, 5, 2), poor)[1]
