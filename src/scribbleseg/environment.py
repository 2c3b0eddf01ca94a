"""The environment: the one place that reads its variables."""

from __future__ import annotations

import os


def launched() -> tuple[int, int] | None:
    """Return processes a machine and machines if torchrun or SLURM started this one, else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if "SLURM_PROCID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None


def restarts() -> int:
    """Return how often torchrun or SLURM has started this process anew, after a fault or a preemption."""
    return max(int(os.environ.get(name) or 0) for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))


def keep_ray_quiet() -> None:
    """Have a Ray that this process starts send no statistics of its use to its makers, unless the user wants it to."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def environment_with(**values: str) -> dict[str, str]:
    """Return this process's environment with some variables changed, for a process to be started."""
    return os.environ | values
