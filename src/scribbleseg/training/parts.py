"""Checkpoints in parts, one a process: a folder that any number of processes reads. Nothing in it is executed."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from scribbleseg.atomic import storage_error
from scribbleseg.errors import StorageError

#: Key of a tensor of which a file has some rows; the other files have the rest, the first rows first.
ROWS = "scribbleseg.rows"


@dataclass(frozen=True)
class Parts:
    """A tensor as several processes held it: some rows each."""

    parts: tuple[Tensor, ...]

    def whole(self) -> Tensor:
        """Return all rows."""
        return torch.cat(self.parts)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return some rows; of a file that is mapped no others are read."""
        taken, at = [], 0
        for part in self.parts:
            taken.append(part[max(start - at, 0) : max(stop - at, 0)])
            at += len(part)
        return torch.cat(taken)


def write_parts(path: Path, tree: dict[str, Any], replace: Callable[[Path, Path], None]) -> None:
    """Write a checkpoint, each rank its part; all ranks call it.

    Args:
        path: folder.
        tree: what every rank has, and of DTensors each its own rows.
        replace: gives the finished folder (first) its name (second).

    Raises:
        StorageError: on every rank, if any could not write.
    """
    rank, number = dist.get_rank(), dist.get_world_size()
    temporary = path.with_name(f"writing-{path.name}.part")
    error: StorageError | None = None

    def together(work: Callable[[], None], everywhere: bool = True) -> None:
        nonlocal error
        if everywhere or rank == 0:
            try:
                work()
            except StorageError as met:
                error = met
            except OSError as met:
                error = storage_error(met, path)
        told: list[str | None] = [None] * number
        dist.all_gather_object(told, None if error is None else error.got)
        failed = next(((k, got) for k, got in enumerate(told) if got), None)
        if failed:
            got = f"rank {failed[0]}: {failed[1]}"
            raise error or StorageError(path, "a place where every process can write", got, "mend it and --resume")

    def prepare() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)

    def write() -> None:
        write_file(_mapped(tree, _own_rows), temporary / f"{rank:05d}-of-{number:05d}.pt", path)

    together(prepare, everywhere=False)
    together(write)
    together(lambda: replace(temporary, path), everywhere=False)


def read_parts(path: Path) -> dict[str, Any]:
    """Return a checkpoint with :class:`Parts` for the tensors of which each file has some rows.

    Raises:
        ValueError: a file is missing or damaged, and whatever torch raises.
    """
    files = sorted(path.glob("*-of-*.pt"))
    number = int(files[0].stem.split("-of-")[1]) if files else 0
    if not files or len(files) != number:
        raise ValueError(f"{len(files)} of {number or 'its'} parts")
    return dict(_merged([read_file(file, mmap=True) for file in files]))


def write_file(tree: Any, place: Path, name: Path) -> None:
    """Write what ``read_file`` reads, and see it on the disk.

    Args:
        tree: of tensors, numbers and texts.
        place: where it is written.
        name: what messages call it.

    Raises:
        StorageError: torch's writer met a full disk.
        OSError: it cannot be written.
    """
    try:
        torch.save(tree, place)
    except RuntimeError as error:  # torch's writer says where in its code, not what the system said
        if not any(word in str(error) for word in ("inline_container", "PytorchStreamWriter", "iostream")):
            raise
        reason = str(error).splitlines()[0]
        raise StorageError(name, "a disk with room", reason, "free some space and run again, with --resume") from None
    with place.open("rb+") as file:
        os.fsync(file.fileno())


def read_file(path: Path, *, mmap: bool = False) -> Any:
    """Return what a file of ``torch.save`` holds; nothing in it is executed.

    Raises:
        ValueError: a checksum is wrong, and whatever torch raises of a damaged file.
    """
    with zipfile.ZipFile(path) as file:  # torch writes every part's checksum, and reads without looking at them
        if (damaged := file.testzip()) is not None:
            raise ValueError(f"the checksum of {path.name}: {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def whole(tree: Any) -> Any:
    """Return a tree with whole tensors."""
    return _mapped(tree, lambda leaf: leaf.whole() if isinstance(leaf, Parts) else leaf)


def place_rows(like: Tensor, saved: Tensor | Parts) -> Tensor:
    """Return what belongs where a tensor is: of a DTensor in rows this process's rows, as one."""
    if not isinstance(like, DTensor) or not (isinstance(saved, Parts) or saved.shape == like.shape):
        return saved.whole() if isinstance(saved, Parts) else saved
    rank, number = like.device_mesh.get_local_rank(), like.device_mesh.size()
    each = -(-like.shape[0] // number)
    start, stop = (min(k * each, like.shape[0]) for k in (rank, rank + 1))
    rows = saved.rows(start, stop) if isinstance(saved, Parts) else saved[start:stop]
    local = rows.to(like.to_local().device).clone()
    return DTensor.from_local(local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def _own_rows(leaf: Any) -> Any:
    return {ROWS: leaf.to_local().detach().cpu()} if isinstance(leaf, DTensor) else leaf


def _mapped(tree: Any, work: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, work) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_mapped(value, work) for value in tree)
    return work(tree)


def _merged(trees: list[Any]) -> Any:
    first = trees[0]
    if isinstance(first, dict):
        if first.keys() == {ROWS}:
            return Parts(tuple(tree[ROWS] for tree in trees))
        return {key: _merged([tree[key] for tree in trees]) for key in first}
    if type(first) in (list, tuple):
        return type(first)(_merged(list(values)) for values in zip(*trees, strict=True))
    return first
