"""The field's own code, imported as it is from a folder that the user names; nothing of it is in this repository.

    git clone https://github.com/HiLab-git/WSL4MIS        $PEERS_DIR/WSL4MIS          (a594da8)
    git clone https://github.com/meng-tang/rloss          $PEERS_DIR/rloss            (1caa759)
    git clone https://github.com/qscgy/ridge-detector     $PEERS_DIR/ridge-detector   (c3d96b4)
    python -m benchmarks.ops.peers --peers-dir $PEERS_DIR                              builds rloss's filter

The build needs ``swig`` (pip has it) and ``g++``. Two macros of Python 2 are given the names of today, OpenMP is linked,
which their setup.py leaves out; nothing else differs from their build. Their losses call ``.cuda()``: here that returns
the tensor itself, which costs nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

GATED_CRF = "WSL4MIS/code/utils/gate_crf_loss.py"
DENSE_CRF = "rloss/pytorch/pytorch-deeplab_v3_plus/DenseCRFLoss.py"
FILTER = "rloss/pytorch/wrapper/bilateralfilter"
NORMALIZED_CUT = "ridge-detector/rloss/pytorch/deeplabv3plus/NormalizedCutLoss.py"


def folder() -> Path | None:
    """Return the folder of peers, or None."""
    named = os.environ.get("PEERS_DIR")
    return Path(named) if named else None


def has(path: str) -> bool:
    """Say whether a peer's file is there; rloss's losses need the built filter as well."""
    root = folder()
    if root is None or not (root / path).exists():
        return False
    return path == GATED_CRF or any((root / FILTER / "built").glob("_bilateralfilter*"))


def found() -> dict[str, str | None]:
    """Return what of the peers is there: the first digits of the SHA-256 of each file, None where it is missing."""
    root = folder()
    return {p: hashlib.sha256((root / p).read_bytes()).hexdigest()[:12] if root and has(p) else None for p in PATHS}


PATHS = (GATED_CRF, DENSE_CRF, NORMALIZED_CUT)


@cache
def load(path: str) -> ModuleType:
    """Import one of the peers' files."""
    root = folder()
    assert root is not None
    if path != GATED_CRF:
        sys.path.insert(0, str(root / FILTER / "built"))
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    package = Path(path).parent.name.replace("-", "_")
    for name in (package, f"{package}.dataloaders", "dataloaders"):  # of which they take a function they do not use
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = []
        transforms = ModuleType(f"{name}.custom_transforms")
        transforms.denormalizeimage = None  # type: ignore[attr-defined]
        sys.modules[transforms.__name__] = transforms
    spec = importlib.util.spec_from_file_location(f"{package}.{Path(path).stem}", root / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gated_crf(
    probs: torch.Tensor, rgb: torch.Tensor, radius: int, sigma_px: float, sigma_rgb: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return WSL4MIS's gated CRF loss, called as their training calls it."""
    loss = load(GATED_CRF).ModelLossSemsegGatedCRF()
    kernels = [{"weight": 1, "xy": sigma_px, "rgb": sigma_rgb}]
    height, width = probs.shape[-2:]
    return loss(probs, kernels, radius, rgb, height, width, mask_src=mask)["loss"]


def dense_crf(
    probs: torch.Tensor, rgb: torch.Tensor, sigma_rgb: float, sigma_px: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return rloss's DenseCRF loss with weight 1 at scale 1; colours and sigma_rgb in [0, 1]."""
    apply: Any = load(DENSE_CRF).DenseCRFLossFunction.apply
    gate = probs.new_ones(probs[:, 0].shape) if mask is None else mask.clone()  # they change its shape in place
    return apply(255 * rgb, probs, 255 * sigma_rgb, sigma_px, gate)


def normalized_cut(
    probs: torch.Tensor, rgb: torch.Tensor, sigma_rgb: float, sigma_px: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return ridge-detector's normalized cut loss with weight 1 at scale 1."""
    apply: Any = load(NORMALIZED_CUT).NormalizedCutLossFunction.apply
    gate = probs.new_ones(probs[:, 0].shape) if mask is None else mask.clone()  # they change its shape in place
    return apply(255 * rgb, probs, 255 * sigma_rgb, sigma_px, gate)


def build(root: Path) -> Path:
    """Compile rloss's filter beside its sources, in ``built/``."""
    built = root / FILTER / "built"
    built.mkdir(exist_ok=True)
    for source in (root / FILTER).glob("*.[hci]*"):
        shutil.copy(source, built)
    subprocess.run(["swig", "-python", "-c++", "bilateralfilter.i"], cwd=built, check=True)
    includes = [f"-I{np.get_include()}", f"-I{sysconfig.get_path('include')}"]
    renamed = ["-DPyString_Check=PyUnicode_Check", "-DPyInt_Check=PyLong_Check"]
    library = f"_bilateralfilter{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = ["bilateralfilter_wrap.cxx", "bilateralfilter.cpp", "permutohedral.cpp"]
    flags = ["-O3", "-DNDEBUG", "-fwrapv", "-w", "-fPIC", "-shared", "-fopenmp"]
    subprocess.run(["g++", *flags, *renamed, *includes, *sources, "-o", library], cwd=built, check=True)
    return built / library


def main() -> None:
    """Parse and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-dir", type=Path, required=True)
    print(build(parser.parse_args().peers_dir))


if __name__ == "__main__":
    main()
