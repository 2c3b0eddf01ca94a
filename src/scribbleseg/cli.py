"""The command line: each verb parses, calls one function and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scribbleseg import __version__
from scribbleseg.atomic import CANNOT_WRITE
from scribbleseg.audit.verb import audit
from scribbleseg.errors import ScribblesegError
from scribbleseg.verbs.data import check, convert, shard, simulate
from scribbleseg.verbs.export import export, push
from scribbleseg.verbs.models import compare, evaluate, predict, report
from scribbleseg.verbs.options import Device
from scribbleseg.verbs.serve import serve

app = typer.Typer(
    name="scribbleseg",
    help="A few brush strokes per image become a dense segmentation network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    from scribbleseg.config import RECORD, dump_config, load_config, load_record
    from scribbleseg.training.checkpoint_file import has_checkpoint
    from scribbleseg.training.ranks import is_first
    from scribbleseg.training.run import train as run
    from scribbleseg.trees import merge, parse_overrides

    tree = parse_overrides(context.args)
    given: dict[str, Any] = {"root": str(data)} if data else {}
    given |= {"labels": labels} if labels else {}
    tree = merge(tree, {"data": given} if given else {})
    goes_on = config is None and resume and (out / RECORD).is_file()
    settings = load_record(out, tree) if goes_on else load_config(config, tree)
    if print_config:
        print(dump_config(settings), end="")
        return
    try:
        model = run(settings, out, resume=resume)
        if is_first():
            print(f"model: {model}")
    except KeyboardInterrupt:
        again = f"scribbleseg train --out {out} --resume" if has_checkpoint(out) else "the same command, from the beginning"
        print(f"\nscribbleseg: stopped. Go on with: {again}", file=sys.stderr)
        raise typer.Exit(130) from None


for verb in (predict, evaluate, compare, report, export, push, serve, audit, check, convert, simulate, shard):
    app.command()(verb)


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
            print(f"{'to do' if folder.lacks(each) else 'done '}  {each.config.training.max_steps:>6} steps  {each.key}")
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


def main() -> None:
    """Run the command line; our own errors become one message and their exit code."""
    try:
        app()
    except ScribblesegError as error:
        print(f"scribbleseg: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        print(f"scribbleseg: {error.filename or 'disk'}: {error.strerror}: free some space and run again", file=sys.stderr)
        raise SystemExit(2) from None
