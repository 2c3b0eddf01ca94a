"""Verbs about data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scribbleseg.verbs.options import tell


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
    done = run(source, out, options, source=from_, target=to, say=print, progress=lambda n: tell(f"\r{n} images"))
    tell("\n")
    print(f"{done.converted} images converted, {len(done.failed)} left out: {out}\n{done.table()}")
    for _, error in done.failed[:10]:
        print(f"scribbleseg: left out: {error}", file=sys.stderr)
    if done.failed:
        print(f"scribbleseg: {len(done.failed)} left out; all reasons are in {out / 'failed.txt'}", file=sys.stderr)
        raise typer.Exit(1)


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
            data, wanted, out=out, splits=split or (), jobs=jobs, progress=lambda done, all_: tell(f"\r{done}/{all_} images")
        )
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped. Run the same again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    tell("\n")
    print(f"{style} strokes: {made}")
    print(f"train on them: scribbleseg train --data {made}")


def shard(
    data: Annotated[Path, typer.Argument(help="Data set: a folder with a dataset.yaml.")],
    out: Annotated[Path, typer.Argument(help="New folder to write.")],
    size_mb: Annotated[int, typer.Option(min=1, help="A shard is closed once it has so many megabytes.")] = 500,
    split: Annotated[list[str] | None, typer.Option(help="Only this split's images; may be repeated.")] = None,
) -> None:
    """Pack a data set of many files into tar files that all other commands read, and WebDataset too."""
    from scribbleseg.data.shards.pack import shard_dataset

    try:
        packed = shard_dataset(
            data, out, size_mb=size_mb, splits=split or (), progress=lambda done, all_: tell(f"\r{done}/{all_} images")
        )
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped; nothing was written.", file=sys.stderr)
        raise typer.Exit(130) from None
    tell("\n")
    print(f"{packed.images} images, {packed.files} files in {packed.shards} shards, {packed.bytes / 1e6:.0f} MB: {out}")
    if packed.left:
        print(f"files that stayed behind, as nothing here reads them: {packed.left}")
    print(f"train on them: scribbleseg train --data {out}")
