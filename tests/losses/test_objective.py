from __future__ import annotations

import dataclasses
import doctest
import importlib
import math
from pathlib import Path

import pytest
import torch

import scribbleseg.losses
from scribbleseg.config import LossTerm, parse_config
from scribbleseg.errors import ConfigError
from scribbleseg.losses import LOSSES, Kernel, Loss, Objective
from scribbleseg.losses.dynamic_feature import DYNAMIC, STATIC
from scribbleseg.losses.objective import build_loss, complete, loss_numbers
from scribbleseg.methods import METHODS
from scribbleseg.records import Batch, Output


class TestRegistry:
    @pytest.mark.parametrize("name", LOSSES)
    def test_every_loss_has_its_file_and_its_test(self, name):
        assert LOSSES[name].__module__ == f"scribbleseg.losses.{name}"
        assert (Path(__file__).parent / f"test_{name}.py").is_file()

    @pytest.mark.parametrize("name", LOSSES)
    def test_every_loss_says_where_it_is_from_and_what_it_costs(self, name):
        told = LOSSES[name].__doc__ or ""
        assert "Reference:" in told
        assert "Cost:" in told

    @pytest.mark.parametrize("name", LOSSES)
    def test_every_loss_is_public(self, name):
        assert LOSSES[name].__name__ in scribbleseg.losses.__all__
        assert getattr(scribbleseg.losses, LOSSES[name].__name__) is LOSSES[name]

    @pytest.mark.parametrize("name", LOSSES)
    def test_every_loss_asks_for_what_a_batch_can_give(self, name):
        given = {f.name for f in dataclasses.fields(Batch)} | {f.name for f in dataclasses.fields(Output)}
        given |= {"progress", "ranks"}
        assert issubclass(LOSSES[name], Loss)
        assert LOSSES[name].needs
        assert LOSSES[name].needs <= given - {"logits", "stems", "image"}

    @pytest.mark.parametrize("name", LOSSES)
    def test_examples_run(self, name):
        module = importlib.import_module(LOSSES[name].__module__)
        assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0

    def test_everything_public_exists(self):
        assert all(hasattr(scribbleseg.losses, name) for name in scribbleseg.losses.__all__)


class TestWeights:
    @pytest.mark.parametrize(
        ("progress", "expected"),
        [(0.0, 0.0), (0.19, 0.0), (0.2, 0.0), (0.3, 0.5), (0.4, 1.0), (0.6, 2.0), (0.7, 2.0), (1.0, 2.0)],
    )
    def test_ramp(self, progress, expected):
        term = LossTerm(weight=2.0, start=0.2, ramp=0.4)
        assert term.weight_at(progress) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.49, 0.0), (0.5, 3.0), (1.0, 3.0)])
    def test_start_without_ramp(self, progress, expected):
        assert LossTerm(weight=3.0, start=0.5).weight_at(progress) == expected

    @pytest.mark.parametrize(
        ("progress", "expected"),
        [(0.19, 0.0), (0.2, math.exp(-5)), (0.3, math.exp(-5 * 0.75**2)), (0.6, 1.0), (1.0, 1.0)],
    )
    def test_sigmoid_ramp(self, progress, expected):
        term = LossTerm(weight=2.0, start=0.2, ramp=0.4, curve="sigmoid")
        assert term.weight_at(progress) == pytest.approx(2 * expected, rel=1e-12)

    def test_plain_weight(self):
        assert [LossTerm(weight=0.3).weight_at(p) for p in (0.0, 0.5, 1.0)] == [0.3] * 3


def make(seed: int = 0) -> tuple[Output, Batch]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.full((2, 8, 8), 255)
    labels[:, 1, :4], labels[:, 6, 3:] = 0, 1
    rgb = torch.rand(2, 3, 8, 8, generator=rng)
    output = Output(
        torch.randn(2, 3, 4, 4, generator=rng).requires_grad_(),
        torch.nn.functional.normalize(torch.randn(2, 4, 4, 4, generator=rng), dim=1).requires_grad_(),
        torch.randn(2, 3, 4, 4, generator=rng).requires_grad_(),
        torch.randn(2, 3, 4, 4, generator=rng),
        torch.randn(2, 3, 4, 4, generator=rng),
    )
    drawn = torch.arange(255).expand(2, -1) < 2
    return output, Batch(("a", "b"), rgb, rgb, labels, drawn, torch.ones(2, 8, 8, dtype=torch.bool))


class TestObjective:
    schedule = {  # noqa: RUF012
        "partial_cross_entropy": LossTerm(weight=1.5),
        "dynamic_feature": LossTerm(weight=0.4, ramp=0.5, static={"radius": 1}, dynamic={"radius": 1}),
        "feature_consistency": LossTerm(weight=0.2, start=0.5, num_pixels=16),
    }

    @pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
    def test_total_is_the_weighted_sum_of_the_means(self, progress):
        output, batch = make()
        torch.manual_seed(0)
        total, means = Objective(self.schedule)(output, batch, progress)
        expected = sum(self.schedule[name].weight_at(progress) * mean.item() for name, mean in means.items())
        assert set(means) == {name for name, term in self.schedule.items() if term.weight_at(progress) > 0}
        assert total.item() == pytest.approx(expected, rel=1e-6)
        data = {
            "labels": batch.labels,
            "rgb": batch.rgb,
            "features": output.features,
            "valid": batch.valid,
            "progress": progress,
        }
        for name in means:
            torch.manual_seed(0)
            loss = build_loss(name, self.schedule[name].numbers())
            assert means[name].item() == pytest.approx(loss(output.logits, **data).item(), rel=1e-6)

    @pytest.mark.parametrize(
        ("progress", "expected"),
        [(0.1, {"labels"}), (0.5, {"labels", "branch_logits"}), (0.9, {"labels", "branch_logits", "valid", "ranks"})],
    )
    def test_needs_are_those_of_the_losses_that_have_begun(self, progress, expected):
        late = {"partial_cross_entropy": LossTerm(), "branch_cross_entropy": LossTerm(start=0.3)}
        objective = Objective(late | {"dynamic_mixing": LossTerm(start=0.6), "teacher_consistency": LossTerm(weight=0)})
        assert objective.needs(progress) == expected
        assert objective.needs() == {"labels", "branch_logits", "valid", "ranks"}

    def test_weight_zero_removes_a_loss(self):
        objective = Objective(self.schedule | {"dynamic_feature": LossTerm(weight=0.0)})
        assert set(objective.losses) == {"partial_cross_entropy", "feature_consistency"}
        assert "dynamic_feature" not in objective(*make(), 1.0)[1]

    def test_before_every_start_the_total_is_zero_with_a_gradient(self):
        output, batch = make()
        total, means = Objective({"partial_cross_entropy": LossTerm(start=0.5)})(output, batch, 0.1)
        total.backward()
        assert means == {}
        assert float(total.detach()) == 0
        assert torch.equal(output.logits.grad, torch.zeros_like(output.logits))

    def test_unlabelled_batch_is_finite(self):
        output, batch = make()
        batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, 255))
        total, _ = Objective(self.schedule)(output, batch, 0.9)
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(output.logits.grad).all()
        assert torch.isfinite(output.features.grad).all()

    @pytest.mark.parametrize("terms", [{}, {"partial_cross_entropy": LossTerm(weight=0.0)}])
    def test_nothing_to_minimise_is_an_error(self, terms):
        with pytest.raises(ConfigError, match="at least one loss with a weight above 0"):
            Objective(terms)

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_can_be_built_and_run(self, method):
        config = parse_config({"method": method})
        objective = Objective(config.losses)
        assert set(objective.losses) == set(METHODS[method])
        total, means = objective(*make(), 1.0)
        assert set(means) == set(METHODS[method])
        assert float(total.detach()) > 0


class TestNumbers:
    def test_unknown_loss_names_the_nearest(self):
        with pytest.raises(ConfigError, match="did you mean 'dynamic_feature'") as error:
            Objective({"dynamic_features": LossTerm()})
        assert "losses.dynamic_features" in str(error.value)

    @pytest.mark.parametrize(
        ("name", "numbers", "told"),
        [
            ("feature_consistency", {"num_pixel": 3}, "did you mean 'num_pixels'"),
            ("dynamic_feature", {"statik": None}, "did you mean 'static'"),
            ("partial_cross_entropy", {"wieght": 3}, "did you mean 'weight'"),
            ("dynamic_feature", {"static": {"radus": 3}}, "did you mean 'radius'"),
        ],
    )
    def test_unknown_number_names_the_nearest(self, name, numbers, told):
        with pytest.raises(ConfigError, match=told) as error:
            loss_numbers(name, numbers)
        assert f"losses.{name}" in str(error.value)

    @pytest.mark.parametrize(
        ("name", "numbers", "where"),
        [
            ("feature_consistency", {"num_pixels": "many"}, "num_pixels"),
            ("dynamic_feature", {"static": {"radius": 0}}, "static.radius"),
            ("dynamic_feature", {"dynamic": {"sigma_px": -1}}, "dynamic.sigma_px"),
            ("dynamic_feature", {"dynamic": 3}, "dynamic"),
            ("feature_consistency", {"num_pixels": 0}, "num_pixels"),
        ],
    )
    def test_wrong_value_says_where(self, name, numbers, where):
        with pytest.raises(ConfigError, match=f"losses.{name}.*{where}"):
            loss_numbers(name, numbers)

    def test_unknown_relaxation_is_found_before_the_first_step(self):
        with pytest.raises(ConfigError, match="quadratic"):
            Objective({"dynamic_feature": LossTerm(relaxation="quadrtic")})

    def test_partly_given_kernel_keeps_its_other_defaults(self):
        numbers = loss_numbers("dynamic_feature", {"static": {"radius": 3}})
        assert numbers["static"] == STATIC.model_copy(update={"radius": 3})
        assert numbers["static"] != Kernel(radius=3), "the loss's own defaults, not those of any kernel"
        assert numbers["dynamic"] == DYNAMIC

    def test_a_kernel_can_be_turned_off(self):
        assert loss_numbers("dynamic_feature", {"dynamic": None})["dynamic"] is None

    def test_complete_writes_every_number_out(self):
        terms = complete(
            {"dynamic_feature": LossTerm(weight=0.3, ramp=0.2, static={"radius": 3}), "feature_consistency": LossTerm()}
        )
        first = terms["dynamic_feature"]
        assert (first.weight, first.start, first.ramp) == (0.3, 0.0, 0.2)
        assert first.numbers() == {
            "static": STATIC.model_dump() | {"radius": 3},
            "dynamic": DYNAMIC.model_dump(),
            "relaxation": "bilinear",
            "refine": 1,
            "stride": 1,
            "source": "current",
            "feature_gradient": False,
        }
        assert set(terms["feature_consistency"].numbers()) == {
            "num_pixels",
            "scale",
            "margin",
            "confidence",
            "confident_after",
            "across_images",
        }
        assert complete(terms) == terms

    def test_complete_builds_the_same_losses(self):
        terms = {"dynamic_feature": LossTerm(static={"radius": 2}, dynamic=None)}
        short, long = Objective(terms), Objective(complete(terms))
        assert short.losses["dynamic_feature"].kernels == long.losses["dynamic_feature"].kernels
