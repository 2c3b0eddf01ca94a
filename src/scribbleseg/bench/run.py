"""Running a table: every cell in a process of its own, every result one JSON file; what is there is not done again."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from scribbleseg.atomic import write_text
from scribbleseg.bench.scores import figure
from scribbleseg.bench.table import Cell, Places, Table, cells
from scribbleseg.config import RECORD, RecordedConfig, RunConfig, dump_config, load_record, parse_record, without_places
from scribbleseg.environment import environment_with
from scribbleseg.errors import ConfigError, ScribblesegError, nearest
from scribbleseg.evaluate import evaluate
from scribbleseg.provenance import provenance
from scribbleseg.scores import summary, volume_mean
from scribbleseg.training.checkpoint_file import has_checkpoint
from scribbleseg.training.run import train
from scribbleseg.training.settings import changes

Choices = dict[tuple[str, str, str], Mapping[str, Any]]


def run_cell(cell: Cell, runs: Path, *, threads: int = 0) -> dict[str, Any]:
    """Train and score one cell; a training that was stopped goes on. Return its result.

    Args:
        runs: its run folder is made in here.
        threads: of the CPU; 0 leaves torch's choice.
    """
    training = cell.config.training.model_copy(update={"threads": threads, "progress_bar": False})
    config = cell.config.model_copy(update={"training": training})
    assert config.data.root is not None
    out = runs / cell.stem
    if (out / RECORD).is_file() and differences(cell, load_record(out)):
        shutil.rmtree(out)  # a training with other settings, as a result of other settings is none
    resumed = has_checkpoint(out)
    began = time.monotonic()
    model = out / "model"
    if not model.is_dir():
        model = train(config, out, resume=resumed)
    minutes = None if resumed else (time.monotonic() - began) / 60
    result: dict[str, Any] = {
        "data": cell.data,
        "network": cell.network,
        "method": cell.method,
        "seed": cell.seed,
        "protocol": cell.protocol,
        "choice": cell.choice,
        "minutes": minutes,
        "memory_mib": _peak_memory(),
        "provenance": provenance(cell.seed),
        "config": as_tree(config),
    }
    for split in cell.splits:
        found = summary(evaluate(model, config.data.root, split=split))
        per_image = found.pop("per_image")
        del found["replicates"]
        found["per_case"] = (
            [volume_mean(v) for v in found["per_volume"]] if "per_volume" in found else [i["miou"] for i in per_image]
        )
        result[split] = found
    return result


def _peak_memory() -> dict[str, float]:
    """Return the most memory this process has had, and on its GPU, in MiB."""
    import torch

    found = {}
    if sys.platform != "win32":
        import resource

        found["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def as_tree(config: RunConfig) -> dict[str, Any]:
    """Return a configuration as plain data, without folders."""
    tree = yaml.safe_load(dump_config(without_places(config)))
    assert isinstance(tree, dict)
    return tree


def differences(cell: Cell, then: RecordedConfig) -> list[str]:
    """Return the settings in which a run differs from its cell; a default that came later counts as it is now.

    A record names every loss it was trained with, so what its method's losses have become does not touch it.
    """
    return changes(without_places(then), without_places(cell.config))


class Folder:
    """The results of a table, under one protocol, and what they still lack.

    Args:
        table: the table.
        places: of data and weights.
        root: folder of the results; a protocol has a subfolder of its own.
        protocol: "" for the table as it is.
    """

    def __init__(self, table: Table, places: Places, root: Path, protocol: str = "") -> None:
        self.table, self.places, self.protocol = table, places, protocol
        self.root = root / protocol if protocol else root

    def path(self, cell: Cell) -> Path:
        """Return where a cell's result is."""
        return self.root / ("tuning" if cell.choice is not None else "") / f"{cell.stem}.json"

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """Return a cell's result, None where there is none or it was made with other settings."""
        path = self.path(cell)
        if not path.is_file():
            return None
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            then = parse_record(result["config"], "a result's configuration")
            return None if differences(cell, then) else dict(result)
        except (ValueError, KeyError, ScribblesegError):
            return None

    def cells(self) -> Iterator[Cell]:
        """Yield all trainings: the tuning first, then those of the table whose method has been tuned."""
        yield from cells(self.table, self.places, protocol=self.protocol, tuning=True)
        yield from cells(self.table, self.places, protocol=self.protocol, chosen=self.chosen())

    def missing(self, only: Sequence[str] = ()) -> list[Cell]:
        """Return what is still to be run now, of the cells whose key has one of the words of ``only`` in it."""
        return [c for c in self.named(only) if self.lacks(c)]

    def lacks(self, cell: Cell) -> bool:
        """Say whether a cell is to be run: there is no result of it, or none on one of its splits."""
        return not set(cell.splits) <= (self.read(cell) or {}).keys()

    def named(self, only: Sequence[str] = ()) -> list[Cell]:
        """Return the cells whose key has one of the words of ``only`` in it.

        Raises:
            ConfigError: a word that is in no cell's key.
        """
        known = list(self.cells())
        for word in only:
            if not any(word in cell.key for cell in known):
                parts = {part for cell in known for part in cell.key.split(" / ")}
                raise ConfigError("--only", "part of a cell's name, as --dry-run lists them", f"'{word}'", nearest(word, parts))
        return [c for c in known if not only or any(word in c.key for word in only)]

    def chosen(self) -> Choices:
        """Return the best choice on ``val`` of every method whose tuning is complete; of equals the first."""
        tried: dict[tuple[str, str, str], list[tuple[float, Mapping[str, Any]] | None]] = {}
        for cell in cells(self.table, self.places, protocol=self.protocol, tuning=True):
            result = self.read(cell)
            assert cell.choice is not None
            found = None if result is None else (figure(result["val"])[1], cell.choice)
            tried.setdefault((cell.data, cell.network, cell.method), []).append(found)
        whole = {key: [f for f in found if f is not None] for key, found in tried.items() if None not in found}
        return {key: max(found, key=lambda f: f[0])[1] for key, found in whole.items()}

    def results(self) -> list[dict[str, Any]]:
        """Return the results of the table itself."""
        found = (self.read(c) for c in cells(self.table, self.places, protocol=self.protocol, chosen=self.chosen()))
        return [result for result in found if result is not None]

    def find(self, stem: str) -> Cell:
        """Return a cell by its file's name."""
        known = {cell.stem: cell for cell in self.cells()}
        if stem not in known:
            raise ConfigError("--cell", "a cell of the table", f"'{stem}'", nearest(stem, known))
        return known[stem]

    def run(self, stem: str, runs: Path, *, threads: int = 0) -> Path:
        """Run one cell in this process and write its result; a model that is there already is scored, and keeps its minutes."""
        cell = self.find(stem)
        before = self.read(cell) if (runs / cell.stem / "model").is_dir() else None
        result = run_cell(cell, runs, threads=threads)
        if result["minutes"] is None and before is not None:
            result["minutes"] = before["minutes"]
        write_text(self.path(cell), json.dumps(result, indent=1) + "\n")
        return self.path(cell)


def run_table(
    folder: Folder,
    command: Sequence[str],
    *,
    only: Sequence[str] = (),
    jobs: int = 1,
    devices: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> list[str]:
    """Run what a table lacks, each cell in a new process; return the keys of the cells that failed.

    Args:
        folder: of the results.
        command: of a process that runs one cell, whose name is added at its end.
        only: words of which one must be in a cell's key.
        jobs: processes at a time.
        devices: numbers of GPUs that the processes share out; each sees one of them.
        say: gets a line when a cell begins and one when it ends.
    """
    slots: queue.Queue[str | None] = queue.Queue()
    for n in range(jobs):
        slots.put(devices[n % len(devices)] if devices else None)
    failed: list[str] = []

    def run(cell: Cell) -> None:
        device = slots.get()
        environment = environment_with(**({} if device is None else {"CUDA_VISIBLE_DEVICES": device}))
        began = time.monotonic()
        say(f"{cell.key}: {cell.config.training.max_steps} steps …")
        done = subprocess.run(
            [*command, cell.stem], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        slots.put(device)
        minutes = (time.monotonic() - began) / 60
        result = folder.read(cell) if done.returncode == 0 else None
        if result is None:
            failed.append(cell.key)
            say(f"{cell.key}: failed after {minutes:.1f} min\n{done.stderr.strip()}")
        else:
            name, value = figure(result["val"])
            say(f"{cell.key}: val {name} {value:.3f}, {minutes:.1f} min")

    tried: set[str] = set()
    while todo := [c for c in folder.missing(only) if c.stem not in tried]:  # tuning that is complete brings new cells
        tuning = [c for c in todo if c.choice is not None]
        now = tuning or todo
        tried |= {c.stem for c in now}
        pool = ThreadPoolExecutor(jobs)
        try:
            list(pool.map(run, now))
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt ends the processes that run; no other is to begin
    return failed
