"""Verbs about trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scribbleseg.verbs.options import DataFolder, Device, ModelFolder, Refine, tell


def predict(
    model: ModelFolder,
    input: Annotated[Path, typer.Option("--input", help="Folder of images, or one image.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks; overlays go to its overlays/.")],
    device: Device = "auto",
    refine: Refine = None,
) -> None:
    """Predict a folder of images: an index PNG and a colour overlay each."""
    from scribbleseg.predict import predict_folder

    done = 0
    for path in predict_folder(model, input, out, device=device, refine=refine):
        done += 1
        tell(f"\r{done} done, last: {path.name}")
    tell("\n")
    print(f"{done} masks: {out}")


def evaluate(
    data: DataFolder,
    model: Annotated[Path | None, typer.Option(help="Model or run folder.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of predicted index masks instead of a model.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    json: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    device: Device = "auto",
    refine: Refine = None,
) -> None:
    """Score a model, or a folder of masks, against a data set's dense masks."""
    from scribbleseg.errors import ConfigError
    from scribbleseg.evaluate import evaluate as run
    from scribbleseg.scores import summary, table, write_scores

    source = model or masks
    if source is None or (model and masks):
        raise ConfigError("evaluate", "--model FOLDER or --masks FOLDER", "both" if model else "neither", "give one of them")
    scores = run(
        source, data, split=split, device=device, refine=refine, progress=lambda done, all_: tell(f"\r{done}/{all_} images")
    )
    tell("\n")
    print(table(summary(scores)))
    if json is not None:
        write_scores(json, scores, source=source.name, data=data.name, split=split)
        print(f"scores: {json}")


def compare(
    one: Annotated[Path, typer.Argument(help="Scores that `evaluate --json` wrote.")],
    other: Annotated[Path, typer.Argument(help="Another model's scores on the same images.")],
) -> None:
    """Say how two models differ on the same images, and whether that may be chance."""
    from scribbleseg.compare import compare as run, comparison_table
    from scribbleseg.scores import read_scores

    trees = read_scores(one), read_scores(other)
    print(comparison_table(run(*trees), (one.stem, other.stem)))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared.")],
    out: Annotated[Path, typer.Option(help="File to write: .html, .md, .csv or .json.")] = Path("report.html"),
    data: Annotated[Path | None, typer.Option(help="Data set, if not the one of the first run.")] = None,
    split: Annotated[str, typer.Option(help="Split to score and show.")] = "test",
    device: Device = "auto",
) -> None:
    """Write one self-contained file about one or several runs, to be read in a browser (or Markdown, CSV, JSON)."""
    from scribbleseg.report.page import report as run

    print(f"report: {run(runs, out, data=data, split=split, device=device)}")


def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="New folder for model.onnx and the runner that needs no PyTorch.")],
    images: Annotated[Path | None, typer.Option(help="Pictures on which it must answer as the original does.")] = None,
    input_: Annotated[str, typer.Option("--input", help="uint8, or float32 for values in [0, 1].")] = "uint8",
) -> None:
    """Write a model as ONNX with its preprocessing inside, and check that it answers as the original does."""
    from scribbleseg.errors import ConfigError
    from scribbleseg.export import export_onnx

    if input_ not in ("uint8", "float32"):
        raise ConfigError("--input", "uint8 or float32", input_, "choose one")
    found = export_onnx(model, out, images=images, input="uint8" if input_ == "uint8" else "float32")
    print(f"model: {out / 'model.onnx'}")
    print(f"as the original on {found.pictures} pictures: to {found.difference:.1e}; {found.other:.3%} of the pixels differ")
    print(f"without PyTorch: python {out / 'runner.py'} {out / 'model.onnx'} PICTURE MASK.png")
