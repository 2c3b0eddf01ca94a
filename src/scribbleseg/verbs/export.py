"""Verbs that hand a trained model on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scribbleseg.verbs.options import ModelFolder

if TYPE_CHECKING:
    from scribbleseg.export.parity import Parity

_FORMATS = {
    "onnx": {"input", "precision", "calibration"},
    "torch": {"input"},
    "hub": {"scores", "license"},
}


def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="New folder for what is written.")],
    format: Annotated[str, typer.Option(help="onnx, torch or hub.")] = "onnx",
    images: Annotated[Path | None, typer.Option(help="Pictures on which it must answer as the original does.")] = None,
    precision: Annotated[str | None, typer.Option(help="onnx: float32, float16 or int8; float32 if not given.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="onnx, int8: other pictures, for 8-bit values between layers too, not weights alone.")
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="onnx, torch: uint8, or float32 for values in [0, 1]; uint8 if not given.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="hub: what `evaluate --json` wrote of this model.")] = None,
    license: Annotated[str | None, typer.Option(help="hub: licence of the model, as apache-2.0.")] = None,
) -> None:
    """Write a model in a form that others can use, and check that it answers as the original does.

    onnx: with its preprocessing inside, and a runner that needs no PyTorch.
    torch: the same as a program of torch.export, for PyTorch without scribbleseg.
    hub: a folder for the Hugging Face Hub with a model card; `scribbleseg push` uploads it.
    """
    from scribbleseg.errors import ConfigError, nearest

    if format not in _FORMATS:
        raise ConfigError("--format", "a known format", f"'{format}'", nearest(format, _FORMATS))
    given: dict[str, Any] = {
        "input": input_,
        "precision": precision,
        "calibration": calibration,
        "scores": scores,
        "license": license,
    }
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in _FORMATS[format]:
            own = next(name for name, keys in _FORMATS.items() if key in keys)
            raise ConfigError(f"--{key}", f"--format {own}", f"--format {format}", "leave one of them out")
    if input_ not in (None, "uint8", "float32"):
        raise ConfigError("--input", "uint8 or float32", f"'{input_}'", "choose one")
    _FORMAT_OF[format](model, out, images, given)


def _onnx(model: Path, out: Path, images: Path | None, given: dict[str, Any]) -> None:
    from scribbleseg.export.onnx import export_onnx

    found = export_onnx(model, out, images=images, **given)
    _tell(found, out / "model.onnx")
    print(f"{found.ms:.0f} ms a picture here, the original {found.original_ms:.0f} ms")
    print(f"without PyTorch: python {out / 'runner.py'} {out / 'model.onnx'} PICTURE MASK.png")


def _torch(model: Path, out: Path, images: Path | None, given: dict[str, Any]) -> None:
    from scribbleseg.export.program import PROGRAM, export_program

    _tell(export_program(model, out, images=images, **given), out / PROGRAM)
    print(f'without scribbleseg: torch.export.load("{out / PROGRAM}").module()')


def _hub(model: Path, out: Path, images: Path | None, given: dict[str, Any]) -> None:
    from scribbleseg.export.hub import CARD, export_hub

    _tell(export_hub(model, out, images=images, **given), out)
    print(f"read it first: {out / CARD}")
    print(f"upload: scribbleseg push {out} USER/NAME")


_FORMAT_OF = {"onnx": _onnx, "torch": _torch, "hub": _hub}


def _tell(found: Parity, path: Path) -> None:
    print(f"model: {path}, {found.size_mb:.1f} MB")
    print(f"as the original on {found.pictures} pictures: {found}")


def push(
    folder: Annotated[Path, typer.Argument(help="What `export --format hub` wrote.")],
    name: Annotated[str, typer.Argument(help="user/name of the repository.")],
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by you alone.")] = False,
) -> None:
    """Upload a model to the Hugging Face Hub, with the token of `hf auth login` or HF_TOKEN."""
    from scribbleseg.export.push import push as run

    print(f"model: {run(folder, name, private=private)}")
