"""The processes of one training: who started them, how they meet, who goes first."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from scribbleseg.config import TrainingConfig
from scribbleseg.environment import launched, restarts
from scribbleseg.errors import ConfigError, TrainingError
from scribbleseg.training.sharded import ShardedStrategy


def is_first() -> bool:
    """Say whether this process writes and speaks for all."""
    return rank_zero_only.rank in (None, 0)


def places(config: TrainingConfig) -> tuple[int, int]:
    """Return processes a machine and machines: those that torchrun or SLURM started, else those of the configuration.

    Raises:
        ConfigError: more processes than images in a batch.
    """
    devices, nodes = launched() or (config.devices, config.num_nodes)
    if devices * nodes > config.batch_size:
        got = f"{config.batch_size} images for {devices * nodes} processes"
        raise ConfigError("training.batch_size", "at least one image a process", got, "raise it; it counts all processes")
    return devices, nodes


def strategy(name: str, ranks: int) -> Strategy | str:
    """Return how Lightning spreads a run. Heads that no loss asks yet have no gradient, and no rank waits for one."""
    if ranks == 1:
        return "auto"
    return ShardedStrategy(ranks) if name == "fsdp" else DDPStrategy(find_unused_parameters=True)


@contextlib.contextmanager
def meeting() -> Iterator[None]:
    """Let processes that torchrun or SLURM started find each other before anything is written; Lightning goes on with it.

    Processes that Lightning starts itself begin when the first one is ready, so there is nothing to wait for.
    """
    started = _launcher()
    if started is None or started.world_size() == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(started.local_rank())
    elastic = isinstance(started, TorchElasticEnvironment)
    where = "env://" if elastic else f"tcp://{started.main_address}:{started.main_port}"
    store, rank, number = next(rendezvous(where, started.global_rank(), started.world_size()))
    # torchrun keeps its store over a restart, with the addresses of processes that are gone
    store = PrefixStore(f"restart {restarts()}", store)
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=number)
    try:
        yield
    finally:
        gc.collect()  # a network in parts holds the groups of its processes, whose threads must not outlive the program
        if dist.is_initialized():
            dist.destroy_process_group()


def first(work: Callable[[], None]) -> None:
    """Do something on the first rank while the others wait for it.

    Raises:
        TrainingError: on the others, when it failed on the first, which raises what it met.
    """
    failed: BaseException | None = None
    if is_first():
        try:
            work()
        except BaseException as error:
            failed = error
    if dist.is_initialized():
        told = [failed is not None]
        dist.broadcast_object_list(told, src=0)
        if told[0] and failed is None:
            raise TrainingError(f"rank {dist.get_rank()}", "rank 0 ready to begin", "it stopped", "read what it says")
    if failed is not None:
        raise failed


def _launcher() -> ClusterEnvironment | None:
    kinds: tuple[type[ClusterEnvironment], ...] = (TorchElasticEnvironment, SLURMEnvironment)
    return next((kind() for kind in kinds if kind.detect()), None)
