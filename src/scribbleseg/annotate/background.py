"""The training in a process of its own: started, watched through its files, stopped, found again, resumed."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scribbleseg.atomic import write_text
from scribbleseg.config import RunConfig, dump_config, load_config, load_record, parse_config
from scribbleseg.errors import ScribblesegError, TrainingError
from scribbleseg.models.folder import WEIGHTS, TrainedModel, load_model
from scribbleseg.stopping import TOLD
from scribbleseg.training.checkpoint_file import LAST, has_checkpoint, read_checkpoint

#: Steps of a training if the page does not say, without and with an accelerator.
STEPS, STEPS_DEVICE = 300, 2000

#: Steps between checkpoints: what a killed training has to do again at most, and how often its overlay may change.
EVERY = 25

#: Side of the square that it trains on; images are shrunk to the second before.
CROP_PX, LONGEST_PX = 224, 1024

#: How far its priority is below the page's.
NICE = 10

PROCESS, STOPPED, CONFIG, RUN, LOG, HELD_OUT = "process.json", "stopped", "run.yaml", "run", "log.txt", "held_out.json"


def settings(root: Path, longest_px: int, backbone: Path | None, accelerated: bool, max_steps: int | None = None) -> RunConfig:
    """Return the configuration of a background training.

    Args:
        root: of the snapshot.
        longest_px: of the largest image.
        backbone: folder of a pretrained one; a small network from nothing without.
        accelerated: whether there is a GPU.
        max_steps: length.
    """
    cores = os.cpu_count() or 1
    tree: dict[str, Any] = {
        "data": {"root": str(root), "crop_px": CROP_PX, "longest_px": LONGEST_PX if longest_px > LONGEST_PX else 0},
        "training": {
            "max_steps": max_steps or (STEPS_DEVICE if accelerated else STEPS),
            "batch_size": 8 if accelerated else 4,
            "val_every": EVERY,
            "threads": 0 if accelerated else max(1, cores - 1),  # a core is left for the page
            "precision": "auto" if accelerated else "32",
            "progress_bar": False,
        },
    }
    if backbone is not None:
        tree["model"] = {"backbone": str(backbone.resolve())}
    return parse_config(tree)


@dataclass(frozen=True)
class Network:
    """What a training has made so far.

    Attributes:
        model: to predict with.
        step: that it has reached.
        stamp: changes when there is something newer.
    """

    model: TrainedModel
    step: int
    stamp: str


class Training:
    """One training in a folder of its own, ``snapshot/`` in it and what ``train`` writes in ``run/``.

    All that is known of it stands in the folder, so a server that was killed finds it again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name) if folder.name.isdecimal() else 0
        self._child: subprocess.Popen[bytes] | None = None
        self._pace: tuple[float, int] | None = None

    def start(self, config: RunConfig) -> None:
        """Begin."""
        write_text(self.folder / CONFIG, dump_config(config))
        self._launch("--config", str(self.folder / CONFIG))

    def resume(self) -> None:
        """Go on from the last checkpoint; from the beginning where there is none yet.

        Raises:
            TrainingError: it is running or done.
        """
        if self.state() in ("running", "done"):
            raise TrainingError(self.folder, "a training that was stopped", self.state(), "start a new one")
        if has_checkpoint(self.folder / RUN):
            self._launch("--resume")
        else:
            self._launch("--config", str(self.folder / CONFIG))

    def _launch(self, *words: str) -> None:
        (self.folder / STOPPED).unlink(missing_ok=True)
        self._pace = None
        command = [sys.executable, "-m", "scribbleseg", "train", "--out", str(self.folder / RUN), *words]
        with (self.folder / LOG).open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        process = psutil.Process(self._child.pid)
        write_text(self.folder / PROCESS, json.dumps({"pid": process.pid, "born": process.create_time()}) + "\n")
        with contextlib.suppress(psutil.Error, OSError):
            process.nice(NICE if os.name == "posix" else psutil.BELOW_NORMAL_PRIORITY_CLASS)  # type: ignore[attr-defined,unused-ignore]

    def process(self) -> psutil.Process | None:
        """Return the process if it is alive and the one that was started, not another with its number."""
        if self._child is not None:
            self._child.poll()  # a child that has ended must be asked after, or it stays as a zombie
        try:
            note = json.loads((self.folder / PROCESS).read_text(encoding="utf-8"))
            process = psutil.Process(int(note["pid"]))
            alive = abs(process.create_time() - float(note["born"])) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None
        return process if alive else None

    def stop(self, wait_s: float = 10.0) -> None:
        """Ask it to stop after its step, which it keeps; end it where it does not listen."""
        write_text(self.folder / STOPPED, "")
        process = self.process()
        if process is None:
            return
        with contextlib.suppress(psutil.Error):
            process.terminate()  # on Windows this ends it at once: what it had learnt is in its last checkpoint
            process.wait(wait_s)
        with contextlib.suppress(psutil.Error):
            if process.is_running() and self.process() is not None:
                process.kill()
                process.wait(wait_s)

    def state(self) -> str:
        """Return ``running``, ``done``, ``stopped`` or ``failed``."""
        if self.process() is not None:
            return "running"
        if (self.folder / RUN / "model" / WEIGHTS).is_file():
            return "done"
        return "stopped" if (self.folder / STOPPED).is_file() else "failed"

    def status(self) -> dict[str, Any]:
        """Return what the page shows: state, step, steps in all, seconds left, losses and a message."""
        state, rows = self.state(), self._rows()
        steps = [int(row["step"]) + 1 for row in rows]
        step, most = (steps[-1] if steps else 0), self.max_steps()
        if state == "done":
            step = most
        losses = {
            name.removeprefix("train/"): [value for row in rows if (value := _number(row.get(name))) is not None][-50:]
            for name in (rows[0] if rows else {})
            if name.startswith("train/")
        }
        message = self.complaint() if state == "failed" else "it is getting ready" if state == "running" and not step else ""
        left = self._left(step, most) if state == "running" else None
        return {"state": state, "step": step, "max_steps": most, "seconds_left": left, "losses": losses, "message": message}

    def max_steps(self) -> int:
        """Return how long it is."""
        try:
            return load_config(self.folder / CONFIG).training.max_steps
        except ScribblesegError:
            return 0

    def _rows(self) -> list[dict[str, str]]:
        """Return the rows of ``metrics.csv``; the last may be half written."""
        try:
            text = (self.folder / RUN / "metrics.csv").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return []
        whole = text[: text.rfind("\n") + 1]
        return [row for row in csv.DictReader(whole.splitlines()) if (row.get("step") or "").isdecimal()]

    def _left(self, step: int, most: int) -> float | None:
        """Return the seconds left at the pace since it was first asked; None before there is one."""
        now = time.monotonic()
        if step and self._pace is None:
            self._pace = (now, step)
        if self._pace is None or step <= self._pace[1]:
            return None
        return (most - step) * (now - self._pace[0]) / (step - self._pace[1])

    def complaint(self) -> str:
        """Return what it said last: our own message, but not that it was told to stop, or that it ended without one."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        own = [n for n, line in enumerate(lines) if line.startswith("scribbleseg: ") and TOLD not in "".join(lines[n : n + 2])]
        if own:
            return " ".join(line.strip() for line in lines[own[-1] : own[-1] + 4])
        return "it ended without a word: perhaps it was killed, or memory ran out. Resume goes on from its last checkpoint."

    def held_out(self) -> set[str]:
        """Return the keys of the strokes that it does not see."""
        return set(self._note().get("keys", []))

    def seen(self) -> dict[str, Any]:
        """Return what it learns from: number of images and strokes, and the stems."""
        return self._note()

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads((self.folder / HELD_OUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def stamp(self) -> str:
        """Return what changes when there is a newer network; empty where there is none."""
        for path in (self.folder / RUN / "model" / WEIGHTS, self.folder / RUN / "checkpoints" / LAST):
            with contextlib.suppress(OSError):
                return f"{self.number} {path.name} {path.stat().st_mtime_ns}"
        return ""

    def network(self) -> Network | None:
        """Return the averaged network as it is now; None before the first checkpoint.

        Raises:
            ScribblesegError: its files are damaged.
        """
        stamp = self.stamp()
        if not stamp:
            return None
        if (self.folder / RUN / "model" / WEIGHTS).is_file():
            return Network(load_model(self.folder / RUN), self.max_steps(), stamp)
        state = read_checkpoint(self.folder / RUN / "checkpoints" / LAST)
        return Network(
            _averaged(load_record(self.folder / RUN), state, self._note()),
            int(state["global_step"]),
            stamp,
        )


def _number(text: str | None) -> float | None:
    """Return a number of the file; None for what is no finite one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _averaged(config: RunConfig, state: dict[str, Any], note: dict[str, Any]) -> TrainedModel:
    """Return the averaged network of a checkpoint, with the classes it was begun with."""
    from scribbleseg.models.segmenter import Segmenter

    names = tuple(note.get("names", ()))
    start = "averaged.module."
    weights = {key.removeprefix(start): value for key, value in state["state_dict"].items() if key.startswith(start)}
    try:
        segmenter = Segmenter(config.model.model_copy(update={"pretrained": False}), len(names))
        segmenter.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(
            "checkpoint", "the weights of this training", str(error).splitlines()[0], "start a new one"
        ) from None
    return TrainedModel(segmenter.eval(), names, config.data.window_px or config.data.crop_px, config.data.longest_px)


def latest(runs: Path) -> Training | None:
    """Return the training that was begun last."""
    found = sorted((p for p in runs.glob("*") if p.name.isdecimal() and (p / CONFIG).is_file()), key=lambda p: int(p.name))
    return Training(found[-1]) if found else None


def new_folder(runs: Path) -> Path:
    """Make the folder of the next training."""
    numbers: Sequence[int] = [int(p.name) for p in runs.glob("*") if p.name.isdecimal()]
    folder = runs / f"{max(numbers, default=0) + 1:04d}"
    folder.mkdir(parents=True)
    return folder
