"""What benchmarks/step.py times: a training step, regularizers from given scores to their gradients, and WSL4MIS's unfold."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.ops import peers
from benchmarks.ops.measure import Call
from benchmarks.ops.scene import scene
from benchmarks.ops.windowed import SIGMA_PX, SIGMA_RGB
from scribbleseg.config import RunConfig
from scribbleseg.losses import dynamic_feature
from scribbleseg.losses.objective import Objective
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.ops.windowed import windowed_energy
from scribbleseg.records import UNLABELLED, Batch, Output
from scribbleseg.training.run import has_bf16

#: Share of the pixels that strokes cover.
DRAWN = 0.03


class Given(NamedTuple):
    """What the losses get: the batch, scores and features on the network's grid; and the feature head with the maps it gets."""

    batch: Batch
    logits: Tensor
    features: Tensor
    maps: list[Tensor]
    head: nn.Module


def batch_of(images: int, classes: int, size: int) -> Batch:
    """Return pictures of shaded patches, and strokes on a few of their pixels."""
    scores, rgb = scene(images, classes, size)
    strokes = torch.rand(images, size, size, generator=torch.Generator().manual_seed(1)) < DRAWN
    labels = torch.where(strokes, scores.argmax(1), UNLABELLED)
    drawn = torch.arange(UNLABELLED).expand(images, -1) < classes
    return Batch(("",) * images, rgb, rgb, labels, drawn, torch.ones_like(strokes))


def given_by(segmenter: Segmenter, batch: Batch) -> Given:
    """Return scores that follow the patches, random features, and the maps that the network has for the batch."""
    images, size = len(batch.stems), batch.image.shape[-1] // segmenter.stride
    features = torch.randn(images, segmenter.config.feature_dim, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = segmenter.backbone(batch.image)
        maps = [segmenter.decoder(found), *found]
    logits = scene(images, segmenter.num_classes, size)[0].log()
    return Given(batch, logits, F.normalize(features, dim=1), maps, segmenter.feature_head)


def objective_of(method: str, *only: str) -> Objective:
    """Return a method's losses, or some of them."""
    terms = RunConfig(method=method).resolved().losses
    return Objective({name: term for name, term in terms.items() if not only or name in only})


def step(segmenter: Segmenter, batch: Batch, method: str) -> Call:
    """Return one training step, in the precision that a run takes here."""
    objective = objective_of(method)
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-6)  # the weights stay where they are
    in_bf16 = has_bf16()

    def call() -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            total, _ = objective(segmenter(batch.image), batch, 1.0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return (total.detach(),)

    return call


def regularizer(given: Given, objective: Objective, backend: str, *, head: bool = False, double: bool = False) -> Call:
    """Return the call that gives the value of some losses and their gradients for the scores and the features.

    Args:
        given: what they get.
        objective: the losses.
        backend: of the windowed energy.
        head: begin with the maps and make the features of them, as a step does.
        double: compute in float64.
    """
    dtype = torch.float64 if double else torch.float32
    logits, features = (x.to(dtype).clone().requires_grad_() for x in (given.logits, given.features))
    maps = [x.clone().requires_grad_() for x in given.maps]
    wanted = [logits, *((*maps, *given.head.parameters()) if head else (features,))]
    chosen = partial(windowed_energy, backend=backend)

    def call() -> tuple[Tensor, ...]:
        torch.manual_seed(0)  # of the pixels that the consistency loss draws
        with mock.patch.object(dynamic_feature, "windowed_energy", chosen):
            total, _ = objective(Output(logits, given.head(maps) if head else features), given.batch, 1.0)
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        return total.detach(), *(g for g in gradients if g is not None)

    return call


def features_of(given: Given) -> Call:
    """Return the call that makes the features of the maps, and their gradients."""
    maps = [x.clone().requires_grad_() for x in given.maps]

    def call() -> tuple[Tensor, ...]:
        found = given.head(maps)
        gradients = torch.autograd.grad(found, [*maps, *given.head.parameters()], torch.ones_like(found))
        return found.detach(), *gradients

    return call


def unfold(given: Given, size: int) -> Call:
    """Return WSL4MIS's gated CRF on scores that are brought to a size, and its gradient for the given ones."""
    logits = given.logits.clone().requires_grad_()
    rgb = F.adaptive_avg_pool2d(given.batch.rgb, size)

    def call() -> tuple[Tensor, ...]:
        probs = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False).softmax(1)
        value = peers.gated_crf(probs, rgb, 5, SIGMA_PX, SIGMA_RGB)
        return value.detach(), *torch.autograd.grad(value, [logits])

    return call
