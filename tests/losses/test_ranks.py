"""Losses over several processes are those of one process that has the whole batch: real processes, gloo, float64."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

from scribbleseg.config import LossTerm
from scribbleseg.losses import LOSSES, Objective
from scribbleseg.losses.ranks import ALONE, Ranks
from scribbleseg.records import UNLABELLED, Batch, Output

#: Losses, and other forms of them that look across the batch.
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in LOSSES} | {
    "feature_consistency within images": ("feature_consistency", {"across_images": False}),
    "partial_dice per image": ("partial_dice", {"per_image": True}),
    "partial_dice squared": ("partial_dice", {"squared": True, "include_background": False}),
    "dynamic_feature with gradient": ("dynamic_feature", {"feature_gradient": True}),
    "pseudo_label of an unsure teacher": ("pseudo_label", {"confidence": 0.5}),
    "dynamic_mixing soft": ("dynamic_mixing", {"soft": True}),
}

#: A fork server imports once; some systems have none.
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

#: Rows of the batch: not to be shared evenly by 2 or 4.
IMAGES = 7


def world(seed: int) -> tuple[Output, Batch]:
    """A batch in float64 with 40, 1, 0, 0, 5, 12 and 2 labelled pixels, some padding, and its outputs."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    labels = torch.full((IMAGES, 16, 16), UNLABELLED)
    for image, number in enumerate((40, 1, 0, 0, 5, 12, 2)):
        where = torch.randperm(256, generator=rng)[:number]
        labels[image].view(-1)[where] = torch.randint(0, 3, (number,), generator=rng)
    valid = torch.ones(IMAGES, 16, 16, dtype=torch.bool)
    valid[1, :, 9:] = False
    labels[1, :, 9:] = UNLABELLED
    rgb = torch.rand(IMAGES, 3, 16, 16, generator=rng, dtype=torch.float64)
    drawn = torch.zeros(IMAGES, 255, dtype=torch.bool)
    drawn[:, :2] = True
    grid = (IMAGES, 3, 8, 8)
    outputs = {
        name: normal(*grid).requires_grad_() for name in ("logits", "branch_logits", "teacher_logits", "teacher_clean_logits")
    }
    features = F.normalize(normal(IMAGES, 4, 8, 8), dim=1).requires_grad_()
    return Output(features=features, **outputs), Batch(tuple("abcdefg"), rgb, rgb, labels, drawn, valid)


def part(output: Output, batch: Batch, first: int, end: int) -> tuple[Output, Batch]:
    """Return some rows; gradients flow back to the whole."""
    mine = {name: value[first:end] for name, value in vars(output).items() if value is not None}
    rows = {name: value[first:end] for name, value in vars(batch).items()}
    return Output(**mine), Batch(**rows)


def gradients(case: str, output: Output, batch: Batch, ranks: Ranks, progress: float = 1.0) -> dict[str, torch.Tensor]:
    """Return means and the gradients of the total."""
    name, numbers = CASES[case]
    objective = Objective({name: LossTerm(weight=0.7, **numbers)})
    inside = [value for value in (output.logits, output.features, output.branch_logits) if value is not None]
    total, means = objective(output, batch, progress, ranks)
    found = torch.autograd.grad(total, inside, allow_unused=True, materialize_grads=True)
    return {"mean": means[name].detach(), **{str(k): g for k, g in enumerate(found)}}


def bounds(number: int, rank: int) -> tuple[int, int]:
    """The rows of a rank: as even as can be, the first ones have more."""
    each, more = divmod(IMAGES, number)
    first = rank * each + min(rank, more)
    return first, first + each + (rank < more)


def work(rank: int, number: int, folder: str) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=number)
    try:
        for case in CASES:
            output, batch = world(3)
            mine = part(output, batch, *bounds(number, rank))
            leaves = Output(**{k: v.detach().requires_grad_() for k, v in vars(mine[0]).items() if v is not None})
            ranks = Ranks(number, rank, torch.Generator().manual_seed(5))
            torch.save(gradients(case, leaves, mine[1], ranks), f"{folder}/{case}.{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def spread(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The results of all cases over so many processes."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    multiprocessing.set_forkserver_preload([__name__])
    mp.start_processes(work, args=(request.param, str(folder)), nprocs=request.param, start_method=START)
    return request.param, folder


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_processes_has_the_gradient_of_one(spread: tuple[int, Path], case: str) -> None:
    number, folder = spread
    output, batch = world(3)
    alone = gradients(case, output, batch, Ranks(generator=torch.Generator().manual_seed(5)))
    parts = [torch.load(folder / f"{case}.{rank}.pt", weights_only=True) for rank in range(number)]
    assert any(bool(alone[str(k)].abs().max() > 0) for k in range(3))
    for found in parts:
        torch.testing.assert_close(found["mean"], alone["mean"], rtol=1e-9, atol=1e-12)
    for k in range(3):
        together = torch.cat([found[str(k)] for found in parts]) / number  # DistributedDataParallel takes the mean
        torch.testing.assert_close(together, alone[str(k)], rtol=1e-6, atol=1e-12)


def test_a_mean_of_means_would_be_another_number() -> None:
    output, batch = world(3)
    alone = gradients("partial_cross_entropy", output, batch, ALONE)["0"]
    parts = [gradients("partial_cross_entropy", *part(output, batch, *bounds(2, rank)), ALONE)["0"] for rank in range(2)]
    assert float((torch.cat(parts) / 2 - alone).abs().max()) > 1e-3
