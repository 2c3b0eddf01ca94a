"""Where a result comes from: versions, machine, commit, seed."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("scribbleseg", "scribbleseg-kernels", "torch", "transformers", "lightning", "numpy", "pillow", "scipy")


def provenance(seed: int | None = None) -> dict[str, Any]:
    """Return what is needed to say how a result was made. Never a path, a user or a host name."""
    return {
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }


def package_versions() -> dict[str, str | None]:
    """Return the installed version of each package a result depends on."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_commit() -> str | None:
    """Return the commit of the checkout this package runs from, with ``+changes`` if it was edited; else None."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        commit = git("rev-parse", "--short=12", "HEAD").strip()
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, Any]:
    """Return the kind of machine: processor, cores, system, accelerator, and whether ``precision: auto`` is bf16 there."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "bf16": has_bf16(),
    }


def has_bf16() -> bool:
    """Say whether bf16 arithmetic pays on this machine's first device."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(cpu and cpu())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
