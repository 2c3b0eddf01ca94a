"""``torch.export``: a model with its preprocessing inside as one file, for PyTorch without scribbleseg."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scribbleseg.atomic import atomic_folder
from scribbleseg.errors import ModelError
from scribbleseg.export.parity import Parity, compare, demand, pictures, write_parity
from scribbleseg.export.whole import Input, Whole, about, example, exporting, quiet, require_one_window
from scribbleseg.models.folder import TrainedModel, load_model
from scribbleseg.runner import bands

PROGRAM, ABOUT = "model.pt2", "scribbleseg.json"

#: What a process without scribbleseg does with the file: load it, and answer one picture.
_FRESH = """
import sys, numpy, torch
sys.modules["scribbleseg"] = None
program = torch.export.load(sys.argv[1]).module()
image = torch.from_numpy(numpy.load(sys.argv[2]))[None]
with torch.inference_mode():
    numpy.save(sys.argv[3], program(image)[0].numpy())
"""


def export_program(
    model_folder: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    num_images: int = 8,
    input: Input = "uint8",
) -> Parity:
    """Write a folder with ``model.pt2``, which ``torch.export.load`` reads without scribbleseg.

    The program takes (B, H, W, 3) of any size and returns probabilities (B, C, H, W) of the same; what ``model.onnx`` says in
    its metadata is in its extra file ``scribbleseg.json``. It is loaded again before it is compared, in this process, and
    for one picture in a new one that has no scribbleseg.

    Args:
        model_folder: a model or run folder.
        out: new folder.
        images: folder of pictures to compare on; pictures of noise if None.
        num_images: at most so many of them, evenly from the folder.
        input: ``uint8`` for 8-bit pictures, ``float32`` for values in [0, 1].

    Raises:
        ConfigError: the model resizes pictures to more than its window.
        ModelError: the model folder is not whole, or the program answers otherwise than the original.
        StorageError: the folder exists, or cannot be written.

    Cost: half a minute to two minutes, since sizes are left open.
    """
    model, out = load_model(model_folder), Path(out)
    require_one_window(model, model_folder)
    compared = pictures(model, images, num_images, input)
    do = "this backbone cannot be exported with open sizes; use another, or report it"
    with atomic_folder(out) as folder:
        path = folder / PROGRAM
        _save(model, input, path)
        program, _ = load_program(path)
        found = compare(model, _windowed(program, model), compared, "float32", path)
        demand(found, out, "a program of torch.export", do)
        small = min(compared, key=lambda rgb: rgb.size)[: model.window_px, : model.window_px]
        _compare_fresh(path, program, small, out)
        write_parity(folder, found, input=input, compared="noise" if images is None else "images")
    return found


def load_program(path: Path | str) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """Return the program of a ``model.pt2`` and what it says of itself. Load only files of people you trust.

    Raises:
        ModelError: no such file, or not one of ``scribbleseg export --format torch``.
    """
    extra = {ABOUT: ""}
    try:
        with quiet():
            program = torch.export.load(path, extra_files=extra).module()
        said = json.loads(extra[ABOUT])
    except Exception as error:  # of a dozen unrelated types
        got = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(path, "a program of `scribbleseg export --format torch`", got, "export it again") from None
    return program, said


def _save(model: TrainedModel, input: Input, path: Path) -> None:
    free, reason = torch.export.Dim.DYNAMIC, ""
    for opaque in (True, False):
        whole = Whole(model, opaque).eval()
        try:
            with exporting():
                shapes = ({0: free, 1: free, 2: free},)
                program = torch.export.export(whole, (example(input),), dynamic_shapes=shapes, strict=False)
            with quiet():
                torch.export.save(program, path, extra_files={ABOUT: json.dumps(about(model))})
            return
        except OSError:
            raise
        except Exception as error:  # the exporter raises what it likes
            reason = " ".join(str(error).split())[:300]
    raise ModelError(path.name, "a network that torch.export can follow", reason, "export it as ONNX")


def _windowed(program: Callable[[Tensor], Tensor], model: TrainedModel) -> Callable[[np.ndarray], np.ndarray]:
    """Return prediction by windows with the program."""

    @torch.inference_mode()
    def run(rgb: np.ndarray) -> np.ndarray:
        try:
            return program(torch.from_numpy(np.ascontiguousarray(rgb))[None])[0].numpy()
        except Exception as error:  # a size that the program was not made for
            got = f"{rgb.shape[1]} × {rgb.shape[0]}: {' '.join(str(error).split())[:200]}"
            raise ModelError(PROGRAM, "a program that takes pictures of any size", got, "export it as ONNX") from None

    def windowed(rgb: np.ndarray) -> np.ndarray:
        side = max(rgb.shape[:2]) if model.longest_px else model.window_px
        return np.concatenate([rows for _, rows in bands(run, rgb, side, len(model.names))], 1)

    return windowed


def _compare_fresh(path: Path, program: Callable[[Tensor], Tensor], rgb: np.ndarray, out: Path) -> None:
    """Check that a new process without scribbleseg gets the same answer from the file."""
    with tempfile.TemporaryDirectory() as folder:
        image, answer = Path(folder) / "image.npy", Path(folder) / "answer.npy"
        np.save(image, rgb)
        words = [sys.executable, "-W", "ignore", "-c", _FRESH, str(path), str(image), str(answer)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode or not answer.is_file():
            got = (done.stderr.strip().splitlines() or ["no answer"])[-1][:300]
            raise ModelError(out, "a program that PyTorch loads by itself", got, "report it")
        with torch.inference_mode():
            here = program(torch.from_numpy(np.ascontiguousarray(rgb))[None])[0].numpy()
        if not np.allclose(np.load(answer), here, atol=1e-5):
            raise ModelError(out, "the same answer in a new process", "another one", "report it")
