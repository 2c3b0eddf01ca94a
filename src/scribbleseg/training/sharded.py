"""Networks in parts, one a process (FSDP2): weights, averages and moments that no single device has room for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from scribbleseg.training.checkpoint_file import read_lazily
from scribbleseg.training.checkpoints import take_folder
from scribbleseg.training.parts import Parts, place_rows, write_parts

#: A layer with as many weights is gathered and freed by itself.
LARGE = 1_000_000


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Spread a network's weights over the processes of a mesh, by rows. Its names stay."""
    for holder in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
        for layer in holder:
            lists = any(isinstance(module, nn.ModuleList) for module in layer.modules())
            if not lists and sum(p.numel() for p in layer.parameters()) >= LARGE:
                fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)


@torch.no_grad()
def fill(plain: nn.Module, network: nn.Module) -> None:
    """Give a plain network the weights of one in parts; all ranks call it."""
    state = network.state_dict()
    plain.load_state_dict({name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in state.items()})


@torch.no_grad()
def load(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Load weights, whole or in parts of any number of processes, into a network that is whole or in parts.

    Raises:
        RuntimeError: they are another network's.
    """
    own = network.state_dict()
    if own.keys() != state.keys():
        raise RuntimeError(f"other weights: {', '.join(sorted(own.keys() ^ state.keys()))[:200]}")
    network.load_state_dict({name: place_rows(tensor, state[name]) for name, tensor in own.items()})


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with checkpoints that any number of processes goes on from, and no pickle in them."""

    def __init__(self, ranks: int) -> None:
        super().__init__(data_parallel_size=ranks, tensor_parallel_size=1)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Let Lightning hand the moments back."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the weights, each process its own rows."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return the moments, each process its own rows."""
        state: dict[str, Any] = (optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer).state_dict()
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a folder with a file a process."""
        write_parts(Path(self.broadcast(str(filepath))), checkpoint, take_folder)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint of any number of processes; rows are read when they are needed."""
        return read_lazily(Path(checkpoint_path))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's rows of the weights."""
        assert self.lightning_module is not None
        load(self.lightning_module, checkpoint["state_dict"])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's rows of the moments."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state = {k: {name: _placed(parameters[k], each) for name, each in of.items()} for k, of in saved["state"].items()}
            optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def _placed(parameter: Tensor, saved: Any) -> Any:
    return place_rows(parameter, saved) if isinstance(saved, Tensor | Parts) else saved
