"""The command line: each verb parses, calls one function and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scribbleseg import __version__
from scribbleseg.atomic import CANNOT_WRITE
from scribbleseg.errors import ScribblesegError

app = typer.Typer(
    name="scribbleseg",
    help="A few brush strokes per image become a dense segmentation network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
ModelFolder = Annotated[Path, typer.Option("--model", help="Model folder, or the run folder that holds it.")]
DataFolder = Annotated[Path, typer.Option("--data", help="Data set: a folder with a dataset.yaml.")]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Data set: a folder with a dataset.yaml.")] = None,
    out: Annotated[Path, typer.Option(help="Run folder to write.")] = Path("runs/run"),
    config: Annotated[Path | None, typer.Option(help="YAML file with a run's configuration.")] = None,
    labels: Annotated[str | None, typer.Option(help="scribbles, random_walker, or masks (the upper bound).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print every setting and stop.")] = False,
) -> None:
    """Train a network. Every setting of the configuration is an option too: --seed=1 --training.max_steps=500."""
    from scribbleseg.config import dump_config, load_config, parse_overrides
    from scribbleseg.training.run import train as run
    from scribbleseg.trees import merge

    tree = parse_overrides(context.args)
    given: dict[str, Any] = {"root": str(data)} if data else {}
    given |= {"labels": labels} if labels else {}
    if config is None and resume and (out / "config.yaml").is_file():
        config = out / "config.yaml"
    settings = load_config(config, merge(tree, {"data": given} if given else {}))
    if print_config:
        print(dump_config(settings), end="")
        return
    try:
        print(f"model: {run(settings, out, resume=resume)}")
    except KeyboardInterrupt:
        print(f"\nscribbleseg: stopped. Go on with: scribbleseg train --out {out} --resume", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Data set: a folder with a dataset.yaml.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode images, only their headers and all labels.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write everything that was found to this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a sheet with tables and pictures to this file.")] = None,
) -> None:
    """Say whether a data set can be trained on, and what to mend. Exit code 0: it can, warnings or not; 2: it cannot."""
    from scribbleseg.check.run import check as run
    from scribbleseg.check.text import told, write_json

    try:
        found = run(data, jobs=jobs, quick=quick, progress=True)
        print(told(found))
        if json is not None:
            write_json(json, found)
            print(f"\nfindings: {json}")
        if html is not None:
            from scribbleseg.check.sheet import write_sheet

            print(f"\nsheet: {write_sheet(html, found)}")
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped; nothing was changed.", file=sys.stderr)
        raise typer.Exit(130) from None
    if not found.usable:
        raise typer.Exit(2)


@app.command()
def predict(
    model: ModelFolder,
    input: Annotated[Path, typer.Option("--input", help="Folder of images, or one image.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks; overlays go to its overlays/.")],
    device: Device = "auto",
) -> None:
    """Predict a folder of images: an index PNG and a colour overlay each."""
    from scribbleseg.predict import predict_folder

    done = 0
    for path in predict_folder(model, input, out, device=device):
        done += 1
        _tell(f"\r{done} done, last: {path.name}")
    _tell("\n")
    print(f"{done} masks: {out}")


@app.command()
def evaluate(
    data: DataFolder,
    model: Annotated[Path | None, typer.Option(help="Model or run folder.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of predicted index masks instead of a model.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    json: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    device: Device = "auto",
) -> None:
    """Score a model, or a folder of masks, against a data set's dense masks."""
    from scribbleseg.errors import ConfigError
    from scribbleseg.evaluate import evaluate as run, summary, table, write_scores

    source = model or masks
    if source is None or (model and masks):
        raise ConfigError("evaluate", "--model FOLDER or --masks FOLDER", "both" if model else "neither", "give one of them")
    scores = run(source, data, split=split, device=device, progress=lambda done, all_: _tell(f"\r{done}/{all_} images"))
    _tell("\n")
    print(table(summary(scores)))
    if json is not None:
        write_scores(json, scores, source=source.name, data=data.name, split=split)
        print(f"scores: {json}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    data: Annotated[Path | None, typer.Option(help="Data set, if not the one of the first run.")] = None,
    split: Annotated[str, typer.Option(help="Split to score and show.")] = "test",
    device: Device = "auto",
) -> None:
    """Write one self-contained HTML file about one or several runs."""
    from scribbleseg.report import report as run

    print(f"report: {run(runs, out, data=data, split=split, device=device)}")


@app.command()
def bench(
    table: Annotated[Path, typer.Argument(help="YAML file of the table.")],
    data: Annotated[Path, typer.Option(help="Folder that $data/ stands for.")] = Path("data"),
    weights: Annotated[Path, typer.Option(help="Folder that $weights/ stands for.")] = Path("weights"),
    results: Annotated[Path | None, typer.Option(help="Folder of the results; results/NAME beside the table.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder for checkpoints and models; runs/NAME here.")] = None,
    protocol: Annotated[str, typer.Option(help="Smaller settings of this name in the table.")] = "",
    only: Annotated[list[str] | None, typer.Option(help="Only cells with this in their name; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    gpus: Annotated[str, typer.Option(help="GPUs they share out, as 0,1,2.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of a training; 0 leaves torch's choice.")] = 0,
    page: Annotated[Path | None, typer.Option(help="Write the tables into this page, and train nothing.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every setting and say what would be run.")] = False,
    cell: Annotated[str | None, typer.Option(hidden=True, help="Run this one cell in this process.")] = None,
) -> None:
    """Train and score a table of data sets, networks, methods and seeds; what is done is not done again."""
    from scribbleseg.bench.run import Folder, run_table
    from scribbleseg.bench.table import Places, read_table
    from scribbleseg.errors import TrainingError

    where = results or table.parent / "results" / table.stem
    base = runs or Path("runs") / table.stem
    folder = Folder(read_table(table), Places(data.resolve(), weights.resolve()), where, protocol)
    if page is not None:
        from scribbleseg.bench.page import write_section

        print(f"{write_section(page, folder, table.stem)} results: {page}")
    elif dry_run:
        for each in folder.named(only or []):
            print(f"{'done ' if folder.read(each) else 'to do'}  {each.config.training.max_steps:>6} steps  {each.key}")
    elif cell is not None:
        print(folder.run(cell, base / protocol, threads=threads))
    else:
        places = ["--data", str(data), "--weights", str(weights), "--results", str(where), "--runs", str(base)]
        own = [sys.executable, "-m", "scribbleseg", "bench", str(table), *places, "--protocol", protocol]
        command = [*own, "--threads", str(threads), "--cell"]
        try:
            failed = run_table(folder, command, only=only or [], jobs=jobs, devices=[g for g in gpus.split(",") if g])
        except KeyboardInterrupt:
            print("\nscribbleseg: stopped. Run the same again to go on.", file=sys.stderr)
            raise typer.Exit(130) from None
        if failed:
            raise TrainingError(table, "every cell to finish", f"{len(failed)} failed", "see above, then run the same again")


@app.command()
def simulate(
    data: Annotated[Path, typer.Argument(help="Data set with dense masks: a folder with a dataset.yaml.")],
    style: Annotated[str, typer.Option(help="border, curve, geodesic, person, points, skeleton, straight, walk.")] = "geodesic",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same strokes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write; simulated/STYLE-SEED in the data set.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split's images; may be repeated.")] = None,
    width: Annotated[float, typer.Option(help="Of the brush, in px.")] = 3.0,
    min_area: Annotated[int, typer.Option(min=1, help="Regions of fewer px get no stroke.")] = 150,
    length: Annotated[float, typer.Option(min=0, max=1, help="Share of each stroke that is kept; 0 leaves a dot.")] = 1.0,
    drop: Annotated[float, typer.Option(min=0, max=1, help="Chance that a stroke is lost.")] = 0.0,
    wrong: Annotated[float, typer.Option(min=0, max=1, help="Chance that a stroke has a wrong class.")] = 0.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at work.")] = 1,
) -> None:
    """Draw strokes on a data set's images from its dense masks, in a folder that can be trained on."""
    from scribbleseg.data.simulate.run import Simulation, simulate_dataset

    wanted = Simulation(style, seed, width, min_area, length, drop, wrong)
    try:
        made = simulate_dataset(
            data, wanted, out=out, splits=split or (), jobs=jobs, progress=lambda done, all_: _tell(f"\r{done}/{all_} images")
        )
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped. Run the same again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    _tell("\n")
    print(f"{style} strokes: {made}")
    print(f"train on them: scribbleseg train --data {made}")


@app.command()
def convert(
    source: Annotated[Path | None, typer.Argument(metavar="IN", help="File or folder with strokes.")] = None,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="New folder to write.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Format of IN; recognised if left out.")] = None,
    to: Annotated[str, typer.Option("--to", help="Format of OUT.")] = "dataset",
    unlabelled: Annotated[str | None, typer.Option(help="Value (or palette class) that means 'not annotated'.")] = None,
    names: Annotated[str | None, typer.Option(help="Class names in the order of their ids: background,leaf.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, if they are elsewhere.")] = None,
    palette: Annotated[Path | None, typer.Option(help="Class names and colours: labelmap.txt, or `name r g b` a line.")] = None,
    width: Annotated[float, typer.Option(help="Of strokes drawn as lines, in image pixels.")] = 3.0,
    list_: Annotated[bool, typer.Option("--list", help="List the formats and stop.")] = False,
) -> None:
    """Turn strokes from another tool into a data set, or the other way. Exit code 1 if some images were left out."""
    from scribbleseg.data.convert import convert as run
    from scribbleseg.data.formats import table
    from scribbleseg.data.formats.contents import Options
    from scribbleseg.errors import ConfigError

    if list_:
        print(table())
        return
    if source is None or out is None:
        raise ConfigError("convert", "IN and OUT", "none" if source is None else "IN alone", "scribbleseg convert IN OUT")
    named = tuple(name.strip() for name in names.split(",")) if names is not None else None
    options = Options(unlabelled=unlabelled, names=named, images=images, palette=palette, width_px=width)
    done = run(source, out, options, source=from_, target=to, say=print, progress=lambda n: _tell(f"\r{n} images"))
    _tell("\n")
    print(f"{done.converted} images converted, {len(done.failed)} left out: {out}\n{done.table()}")
    for _, error in done.failed[:10]:
        print(f"scribbleseg: left out: {error}", file=sys.stderr)
    if done.failed:
        print(f"scribbleseg: {len(done.failed)} left out; all reasons are in {out / 'failed.txt'}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def annotate(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures, or a data set.")],
    host: Annotated[str, typer.Option(help="Address to listen at; any but this computer's own needs a token.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; the first free one from 8321 on.")] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    backbone: Annotated[Path | None, typer.Option(help="Folder of a pretrained backbone for the instant overlay.")] = None,
    device: Device = "auto",
) -> None:
    """Draw strokes in a browser, see what is learnt from them, correct. The folder stays a data set that `train` reads."""
    from scribbleseg.annotate import start

    start(folder, host=host, port=port, open_page=open_, backbone=backbone, device=device)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="New folder for data, runs and report.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of data, weights and order.")] = 0,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Length of each training.")] = None,
) -> None:
    """Make a data set, train with and without the dynamic feature loss, compare: no network, weights or GPU needed."""
    from scribbleseg.demo import demo as run

    result = run(out, seed=seed, max_steps=max_steps, say=print)
    print(f"\n{'unseen images':<24}{'mIoU':>8}{'border mIoU':>13}{'accuracy':>10}")
    for title, s in result.scores.items():
        print(f"{title:<24}{s['miou']:>8.3f}{s['border_miou']:>13.3f}{s['pixel_accuracy']:>10.3f}")
    print(f"\nreport: {result.report}")


@app.command()
def doctor() -> None:
    """Print versions, devices and kernel backends, and why one is not available."""
    from scribbleseg.doctor import examine

    topic = ""
    for finding in examine():
        if finding.topic != topic:
            topic = finding.topic
            print(f"\n{topic}")
        print(f"  {finding.name:<16}{finding.missing if finding.missing else finding.value}")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of the program itself."""


def _tell(text: str) -> None:
    """Print progress where a person is watching."""
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line; our own errors become one message and exit code 2."""
    try:
        app()
    except ScribblesegError as error:
        print(f"scribbleseg: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        print(f"scribbleseg: {error.filename or 'disk'}: {error.strerror}: free some space and run again", file=sys.stderr)
        raise SystemExit(2) from None
