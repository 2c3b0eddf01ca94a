"""Loaders as people write them with torchvision's or albumentations' transforms, and the clock that all loaders are held to.

    NO_ALBUMENTATIONS_UPDATE=1 PYTHON benchmarks/streaming_peers.py '{"side": "torchvision", …}'

Runs in an environment of its own, without this package, called by ``benchmarks.streaming``; prints JSON. Each reads the same
files: a picture and its labels, decoded, zoomed by a factor drawn evenly in the logarithm, mirrored or not, padded, cut, its
brightness, contrast and saturation varied, to float32 in [0, 1] and int64.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

UNLABELLED = 255


def timed(loader: Iterable[Any], *, workers: int, batch: int, seconds: float, most: int) -> dict[str, float]:
    """Take batches for some time, or until so many images have come.

    The clock starts when every worker has given its first batch. ``cpu_ms`` is this process's time an image, of use where
    there are no workers.
    """
    began = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first_s = time.perf_counter() - began
    for _ in range(workers - 1):
        next(batches)
    count, began, busy = 0, time.perf_counter(), _busy()
    while count < most and time.perf_counter() - began < seconds:
        try:
            next(batches)
        except StopIteration:
            break
        count += batch
    spent, busy = time.perf_counter() - began, _busy() - busy
    return {"images": count, "rate": count / spent, "cpu_ms": 1000 * busy / max(1, count), "first_s": first_s}


def _busy() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def forget(paths: Iterable[str]) -> None:
    """Ask the system to drop what it keeps of files in memory; their names it keeps."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        with contextlib.suppress(AttributeError):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def cold_and_warm(
    make: Callable[[int], Iterable[Any]], files: list[str], told: dict[str, Any]
) -> dict[str, dict[str, dict[str, float]]]:
    """Time a loader whose files are on the disk alone, then one that reads the same files again; by number of workers."""
    times: dict[str, dict[str, dict[str, float]]] = {}
    for workers in told["workers"]:
        how = {"workers": workers, "batch": told["batch"], "seconds": told["seconds"]}
        forget(files)
        cold = timed(make(workers), most=told["most"], **how)
        times[str(workers)] = {"cold": cold, "warm": timed(make(workers), most=max(1, int(cold["images"])), **how)}
    return times


class Pairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pictures and labels, varied by one of the peers."""

    def __init__(self, files: list[tuple[str, str]], vary: Callable[[str, str], tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.files, self.vary = files, vary

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.vary(*self.files[n])


def import_torchvision() -> Any:
    """Import torchvision, also where its compiled part was built for CUDA and torch was not: two ops are declared then."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        globals()["_KEPT"] = library
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")


def torchvision_side(crop: int, scale: tuple[float, float], colour: float) -> Callable[[str, str], Any]:
    """Return torchvision's transforms on tensors of 8 bits, which it recommends for speed."""
    import_torchvision()
    v2 = importlib.import_module("torchvision.transforms.v2")
    tv = importlib.import_module("torchvision.tv_tensors")
    after = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(crop, pad_if_needed=True, fill={tv.Image: 128, tv.Mask: UNLABELLED}),
            v2.ColorJitter(colour, colour, colour),
            v2.ToDtype({tv.Image: torch.float32, tv.Mask: torch.int64, "others": None}, scale=True),
        ]
    )

    def vary(image: str, labels: str) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(image) as picture, Image.open(labels) as drawn:
            pair = (
                tv.Image(v2.functional.pil_to_tensor(picture.convert("RGB"))),
                tv.Mask(torch.from_numpy(np.array(drawn))[None]),
            )
        factor = _factor(scale)
        size = [max(1, round(side * factor)) for side in pair[0].shape[-2:]]
        return after(*(v2.functional.resize(part, size, antialias=True) for part in pair))

    return vary


def albumentations_side(crop: int, scale: tuple[float, float], colour: float) -> Callable[[str, str], Any]:
    """Return albumentations' transforms, with OpenCV reading the files."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    albumentations = importlib.import_module("albumentations")
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(0)
    to_tensor = importlib.import_module("albumentations.pytorch").ToTensorV2()
    strength = (1 - colour, 1 + colour)
    after = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.PadIfNeeded(crop, crop, fill=128, fill_mask=UNLABELLED, position="top_left"),
            albumentations.RandomCrop(crop, crop),
            albumentations.ColorJitter(strength, strength, strength, (0, 0), p=1),
            albumentations.ToFloat(255),
            to_tensor,
        ]
    )

    def vary(image: str, labels: str) -> tuple[torch.Tensor, torch.Tensor]:
        picture = cv2.cvtColor(cv2.imread(image, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        drawn = cv2.imread(labels, cv2.IMREAD_UNCHANGED)
        factor = _factor(scale)
        size = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(picture, size, interpolation=how)
        found = after(image=picture, mask=cv2.resize(drawn, size, interpolation=cv2.INTER_NEAREST))
        return found["image"], found["mask"].long()

    return vary


def _factor(scale: tuple[float, float]) -> float:
    return math.exp(math.log(scale[0]) + math.log(scale[1] / scale[0]) * float(torch.rand(())))


SIDES = {"torchvision": torchvision_side, "albumentations": albumentations_side}


def measure(told: dict[str, Any]) -> dict[str, Any]:
    """Time one peer."""
    torch.set_num_threads(1)
    with open(told["files"], encoding="utf-8") as file:  # noqa: PTH123
        files = [tuple(pair) for pair in json.load(file)]
    data = Pairs(files, SIDES[told["side"]](told["crop"], tuple(told["scale"]), told["colour"]))

    def make(workers: int) -> Iterable[Any]:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(data, told["batch"], shuffle=True, generator=generator, num_workers=workers, drop_last=True)

    names = ("torch", "torchvision", "albumentations", "opencv-python-headless", "pillow", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"times": cold_and_warm(make, [path for pair in files for path in pair], told), "versions": versions}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
