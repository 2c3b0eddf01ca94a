"""Looking more than once: the average is the one written by hand, and a mirror image gets the mirrored answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scribbleseg.errors import ConfigError
from scribbleseg.evaluate import evaluate
from scribbleseg.models.folder import load_model
from scribbleseg.predict import Views, predict_mask, probabilities
from scribbleseg.predict.views import ONCE, parse_scales
from scribbleseg.predict.windows import batch_probabilities
from scribbleseg.scores import summary
from tests.fake.models import make_model, picture
from tests.test_predict import BlurredNetwork, model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return load_model(make_model(tmp_path_factory.mktemp("models") / "model"))


def by_hand(trained, rgb, flips, scales):
    """The mean over all views of a picture that fits the window, written out."""
    image = torch.from_numpy(rgb.transpose(2, 0, 1) / np.float32(255))[None]
    found = []
    with torch.inference_mode():
        for scale in scales:
            size = [round(n * scale) for n in image.shape[-2:]]
            seen = image
            if scale != 1:
                seen = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=scale < 1)
            for axes in flips:
                probs = trained.segmenter.probabilities(torch.flip(seen, axes) if axes else seen)
                probs = torch.flip(probs, axes) if axes else probs
                found.append(F.interpolate(probs, image.shape[-2:], mode="bilinear", align_corners=False)[0])
    return torch.stack(found).mean(0)


@pytest.mark.parametrize(
    ("views", "flips"),
    [
        (Views("horizontal"), [(), (3,)]),
        (Views("vertical"), [(), (2,)]),
        (Views("both"), [(), (3,), (2,), (2, 3)]),
        (Views(scales=(0.75, 1.0, 1.25)), [()]),
        (Views("both", (0.5, 1.5)), [(), (3,), (2,), (2, 3)]),
    ],
)
def test_the_average_is_the_one_written_by_hand(trained, views, flips):
    rgb = picture(1, (48, 61))
    expected = by_hand(trained, rgb, flips, views.scales)
    found = probabilities(trained, rgb, views)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(found.sum(0), torch.ones(48, 61), atol=1e-5)
    assert not torch.allclose(found, probabilities(trained, rgb), atol=1e-3), "that views change nothing would prove nothing"
    assert views.number == len(flips) * len(views.scales)


@pytest.mark.parametrize(("flips", "axis"), [("horizontal", 1), ("both", 1), ("vertical", 0), ("both", 0)])
def test_the_mirror_image_gets_the_mirrored_mask(trained, flips, axis):
    rgb = picture(2, (45, 62))
    mirrored = np.ascontiguousarray(np.flip(rgb, axis))
    plain = predict_mask(trained, rgb), np.flip(predict_mask(trained, mirrored), axis)
    assert (plain[0] != plain[1]).any(), "this network does not do it by itself"
    views = Views(flips)
    one, other = probabilities(trained, rgb, views), probabilities(trained, mirrored, views)
    assert torch.allclose(one, other.flip(axis + 1), atol=1e-5)


def test_one_look_is_no_look_more(trained):
    rgb = picture(3, (50, 50))
    assert torch.equal(probabilities(trained, rgb, ONCE), probabilities(trained, rgb))
    assert Views() == ONCE


def test_windows_of_a_larger_picture_are_looked_at_one_by_one():
    seen = BlurredNetwork()
    probabilities(model(seen, 32), picture(0, (60, 70)), Views("horizontal", (0.5, 1.0)))
    assert {shape[-2:] for shape in seen.seen} == {(16, 16), (32, 32)}


def test_pictures_share_a_batch_without_a_change(trained):
    pictures = [picture(n, (90, 70)) for n in range(3)]
    together = batch_probabilities(trained, pictures, Views("horizontal"))
    for rgb, probs in zip(pictures, together, strict=True):
        assert torch.allclose(probs, probabilities(trained, rgb, Views("horizontal")), atol=1e-5)


@pytest.mark.parametrize(
    ("views", "wrong"),
    [
        (lambda: Views("sideways"), "--flips"),
        (lambda: Views(scales=()), "--scales"),
        (lambda: Views(scales=(1.0, 1.0)), "--scales"),
        (lambda: Views(scales=(0.01,)), "from 0.25 to 4"),
        (lambda: Views(scales=(float("nan"),)), "--scales"),
        (lambda: parse_scales("1;2"), "separate them by commas"),
    ],
)
def test_views_that_make_no_sense_are_refused(views, wrong):
    with pytest.raises(ConfigError, match=wrong):
        views()
    assert parse_scales("0.75, 1,1.25") == (0.75, 1.0, 1.25)


def test_evaluation_looks_as_prediction_does(tmp_path, dataset_root):
    place = make_model(tmp_path / "model", names=("background", "leaf", "stone"))
    plain = summary(evaluate(place, dataset_root, split="train"))
    views = summary(evaluate(place, dataset_root, split="train", views=Views("both", (0.75, 1.0))))
    assert plain["confusion"] != views["confusion"]
    assert plain["num_pixels"] == views["num_pixels"]
