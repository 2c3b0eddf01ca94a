"""Memory that runs out in a training: once, the batch is halved and the run goes on; twice, it ends with a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scribbleseg.config import parse_config
from scribbleseg.errors import OutOfMemoryError
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.training.halves import in_halves
from scribbleseg.training.module import SegmentationModule
from scribbleseg.training.run import train
from scribbleseg.trees import merge
from tests.fake.datasets import make_dataset
from tests.test_report import MODEL
from tests.training.test_run import SMALL, small

#: What says that memory ran out: torch of a device and of the CPU, and Python.
SHORTAGES = {
    "device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: 12"),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 2147483648 bytes."),
    "onednn": RuntimeError("could not create a primitive"),
    "python": MemoryError(),
}


def without_batch_norm(root: Path, **changes: Any) -> Any:
    tree = merge(SMALL, {"data": {"root": str(root)}, "training": {"optimizer": "sgd", "lr": 0.05, "batch_size": 3}})
    return parse_config(merge(tree | {"model": {**MODEL, "dropout": 0.0}}, changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A configuration, and its run with memory enough."""
    root = tmp_path_factory.mktemp("memory")
    config = without_batch_norm(make_dataset(root / "data"))
    train(config, root / "run")
    return config, root / "run"


def running_out(monkeypatch: pytest.MonkeyPatch, error: Exception, *, at: int, most: int, where: str) -> list[int]:
    """Let memory run out from a step on for more images than ``most`` at once; return the sizes that went through."""
    forward, sizes = Segmenter.forward, []

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            raise error

    def limited(self: Segmenter, image: torch.Tensor, *words: Any) -> Any:
        sizes.append(len(image))
        short = len(image) > most and len(sizes) > at
        if short and where == "forward":
            raise error
        return forward(self, Backward.apply(image.requires_grad_()) if short else image, *words)

    monkeypatch.setattr(Segmenter, "forward", limited)
    return sizes


@pytest.mark.parametrize(("kind", "where"), [*((kind, "forward") for kind in SHORTAGES), ("cpu", "backward")])
def test_the_batch_is_halved_once_and_the_run_learns_the_same(
    whole: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, kind: str, where: str
) -> None:
    config, undisturbed = whole
    sizes = running_out(monkeypatch, SHORTAGES[kind], at=2, most=2, where=where)
    train(config, tmp_path / "halved")
    assert sizes[:3] == [3, 3, 3]
    assert set(sizes[3:]) == {2, 1}
    said = [line for line in capsys.readouterr().err.splitlines() if "memory ran out" in line]
    assert len(said) == 1
    assert "step 3: memory ran out" in said[0]
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (undisturbed, tmp_path / "halved"))
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_halves_is_that_of_the_whole_with_every_loss_that_joins_images(dataset_root: Path) -> None:
    """In float64 to rounding: sums, counts, and pairs of pixels of two images are those of the whole batch."""
    from scribbleseg.data.folder import open_dataset
    from scribbleseg.data.loader import training_loader

    losses = {"partial_dice": {"weight": 0.5}, "feature_consistency": {"num_pixels": 64}}
    config = without_batch_norm(dataset_root, losses=losses)
    batch = next(iter(training_loader(open_dataset(dataset_root), config, lambda: 0)))
    gradients = []
    for halved in (False, True):
        torch.manual_seed(0)
        module = SegmentationModule(config, ("a", "b", "c")).double().train()
        module.halved = halved
        output = module._seen(module.segmenter, batch.image.double(), None)
        torch.manual_seed(1)
        total, _ = module.objective(output, batch, 1.0)
        total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in module.segmenter.parameters() if p.grad is not None]))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-10)


def test_running_statistics_count_each_half_once(dataset_root: Path) -> None:
    torch.manual_seed(0)
    once = Segmenter(small(dataset_root).model, 3).train()
    image = torch.rand(4, 3, 32, 32)
    twice = Segmenter(small(dataset_root).model, 3).train()
    twice.load_state_dict(once.state_dict())
    for part in image.chunk(2):
        once(part)
    in_halves(twice, image).logits.sum().backward()
    layers = [key for key in once.state_dict() if "running" in key]
    assert layers
    for key in layers:
        torch.testing.assert_close(twice.state_dict()[key], once.state_dict()[key])
    assert {layer.momentum for layer in twice.modules() if isinstance(layer, torch.nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize(("images", "told"), [(2, "half a batch of 2"), (1, "a batch of 1")])
def test_out_of_memory_again_ends_the_run_with_a_word(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, told: str
) -> None:
    running_out(monkeypatch, SHORTAGES["device"], at=3, most=0, where="forward")
    with pytest.raises(OutOfMemoryError, match=told) as error:
        train(without_batch_norm(dataset_root, training={"batch_size": images}), tmp_path / "run")
    assert error.value.where == "step 4"
    assert "training.batch_size" in error.value.do
    monkeypatch.undo()
    train(without_batch_norm(dataset_root, training={"batch_size": images}), tmp_path / "run", resume=True)


def test_an_error_of_another_kind_is_none_of_this(dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running_out(monkeypatch, RuntimeError("sizes do not match"), at=2, most=0, where="forward")
    with pytest.raises(RuntimeError, match="sizes do not match"):
        train(without_batch_norm(dataset_root), tmp_path / "run")
