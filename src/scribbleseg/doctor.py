"""What this machine has, and why what is missing is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from scribbleseg.ops.backends import Backend
from scribbleseg.ops.dense import BACKENDS as DENSE
from scribbleseg.ops.tree import BACKENDS as TREE
from scribbleseg.ops.windowed import BACKENDS as WINDOWED
from scribbleseg.provenance import machine, package_versions

#: Extras, the module each brings, and what it adds.
OPTIONAL = {
    "tensorboard": ("tensorboard", "training curves in TensorBoard"),
    "walker": ("skimage", "labels from a random walker"),
    "simulate": ("skimage", "every style of simulated strokes"),
}

#: Every op with backends.
OPS: dict[str, Mapping[str, Backend]] = {
    "windowed_energy": WINDOWED,
    "tree_filter": TREE,
    **{f"dense_filter, {method}": backends for method, backends in DENSE.items()},
}


@dataclass(frozen=True)
class Finding:
    """One line of the examination. ``missing`` says why something is not available, or is None."""

    topic: str
    name: str
    value: str
    missing: str | None = None


def examine() -> list[Finding]:
    """Look at versions, devices and kernel backends; change nothing, ask no network."""
    found = [
        Finding("versions", name, version or "–", None if version else "not installed")
        for name, version in package_versions().items()
    ]
    about = machine()
    bf16 = about.pop("bf16")
    found += [Finding("machine", key, str(value)) for key, value in about.items() if value is not None]
    found.append(Finding("devices", "cpu", f"{torch.get_num_threads()} threads"))
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    found.append(Finding("devices", "cuda", ", ".join(gpus) or "–", None if gpus else _why_no_cuda()))
    mps = torch.backends.mps.is_available()
    found.append(Finding("devices", "mps", "Apple GPU" if mps else "–", None if mps else "not an Apple GPU machine"))
    found.append(Finding("devices", "bf16 autocast", "yes" if bf16 else "–", None if bf16 else "no bf16 arithmetic here"))
    device = torch.device("cuda" if gpus else "cpu")
    for op, backends in OPS.items():
        for name, backend in backends.items():
            reason = backend.why_not(device)
            found.append(Finding(f"backends of {op} on {device}", name, "–" if reason else "available", reason))
    for name, (module, use) in OPTIONAL.items():
        present = importlib.util.find_spec(module) is not None
        found.append(Finding("optional", name, use, None if present else f"not installed: pip install 'scribbleseg[{name}]'"))
    return found


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA"
    return "no NVIDIA GPU or driver was found"
