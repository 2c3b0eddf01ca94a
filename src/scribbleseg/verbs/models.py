"""Verbs about trained models."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scribbleseg.verbs.many import (
    Anew,
    BlockSize,
    ClusterAddress,
    CpusEach,
    Engine,
    LookAgain,
    NotesFolder,
    RetryFailed,
    Workers,
    evaluate_on_ray,
    predict_on_ray,
    resources_of,
)
from scribbleseg.verbs.options import DataFolder, Device, Flips, Refine, Scales, tell


def predict(
    model: Annotated[Path | None, typer.Option("--model", help="Model folder, or the run folder that holds it.")] = None,
    input: Annotated[str | None, typer.Option("--input", help="Folder of images, or one image.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for masks and all else.")] = None,
    outputs: Annotated[str, typer.Option(help="What to write, as mask,overlay,polygons; see --list.")] = "mask,overlay",
    flips: Flips = "none",
    scales: Scales = "1",
    refine: Refine = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete what OUT lists as done; begin anew.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
    device: Device = "auto",
    list_: Annotated[bool, typer.Option("--list", help="Print what can be written, and stop.")] = False,
    engine: Engine = "plain",
    cluster: ClusterAddress = None,
    workers: Workers = 0,
    cpus: CpusEach = 1.0,
    block: BlockSize = 64,
    retry_failed: RetryFailed = False,
    new: LookAgain = False,
) -> None:
    """Predict a folder of images, or one image of any size: masks, overlays, probabilities, polygons, volumes.

    OUT/predictions.jsonl lists what is done: stopped or killed, the same command does the rest. On SIGTERM it ends with the
    images that it has begun.
    An image that cannot be read is left out and named at the end; the exit code is then 1.
    """
    from scribbleseg.errors import ConfigError, StoppedError
    from scribbleseg.predict import Views, predict_inputs
    from scribbleseg.predict.outputs import table
    from scribbleseg.predict.views import parse_scales
    from scribbleseg.stopping import StopRequest

    if list_:
        print(table())
        return
    if model is None or input is None or out is None:
        lacking = ", ".join(n for n, v in {"--model": model, "--input": input, "--out": out}.items() if v is None)
        raise ConfigError("predict", "--model, --input and --out", f"no {lacking}", "see `scribbleseg predict --help`")
    failed, done, kept = [], 0, 0
    views, wanted = Views(flips, parse_scales(scales)), outputs.split(",")
    how: dict[str, Any] = {
        "refine": refine,
        "views": views,
        "outputs": wanted,
        "overwrite": overwrite,
        "device": device,
    }
    if (resources := resources_of(engine, cluster, workers, cpus, block)) is not None:
        how |= {"resources": resources, "retry_failed": retry_failed, "look_again": new}
        predict_on_ray(model, input, out, strict=strict, **how)
        return
    try:
        with StopRequest() as stop, contextlib.closing(predict_inputs(model, input, out, **how)) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    if strict:
                        raise outcome.error
                    failed.append(outcome.error)
                done, kept = done + (outcome.error is None), kept + outcome.kept
                tell(f"\r{done} done, {len(failed)} failed, last: {outcome.path.name}\033[K")
                if stop.came:
                    got = f"SIGTERM at {outcome.path.name}; what was begun is finished and kept"
                    raise StoppedError(out, "to predict every image", got, "run the same again to go on")
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped. Run the same again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    tell("\n")
    print(f"{done} images{f' ({kept} were done before)' if kept else ''}: {out}")
    if failed:
        for error in failed:
            print(f"left out: {error}", file=sys.stderr)
        print(f"{len(failed)} of {len(failed) + done} images were left out", file=sys.stderr)
        raise typer.Exit(1)


def evaluate(
    data: DataFolder,
    model: Annotated[Path | None, typer.Option(help="Model or run folder.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of predicted index masks instead of a model.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    json: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    device: Device = "auto",
    refine: Refine = None,
    flips: Flips = "none",
    scales: Scales = "1",
    engine: Engine = "plain",
    out: NotesFolder = None,
    cluster: ClusterAddress = None,
    workers: Workers = 0,
    cpus: CpusEach = 1.0,
    block: BlockSize = 64,
    retry_failed: RetryFailed = False,
    overwrite: Anew = False,
) -> None:
    """Score a model, or a folder of masks, against a data set's dense masks."""
    from scribbleseg.errors import ConfigError
    from scribbleseg.evaluate import evaluate as run
    from scribbleseg.predict.views import Views, parse_scales
    from scribbleseg.scores import summary, table, write_scores

    source, telling = model or masks, None
    if source is None or (model and masks):
        raise ConfigError("evaluate", "--model FOLDER or --masks FOLDER", "both" if model else "neither", "give one of them")
    how: dict[str, Any] = {"split": split, "device": device, "refine": refine, "views": Views(flips, parse_scales(scales))}
    if (resources := resources_of(engine, cluster, workers, cpus, block)) is None:
        scores = run(source, data, **how, progress=lambda done, all_: tell(f"\r{done}/{all_} images"))
        tell("\n")
    else:
        how |= {"resources": resources, "retry_failed": retry_failed, "overwrite": overwrite}
        scores, telling = evaluate_on_ray(source, data, out, **how)
    print(table(summary(scores)))
    if json is not None:
        left_out = telling.last.failed if telling else 0
        write_scores(json, scores, source=source.name, data=data.name, split=split, left_out=left_out)
        print(f"scores: {json}")
    if telling:
        telling.end("evaluation")


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
