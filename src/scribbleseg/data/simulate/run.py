"""The strokes of a whole data set, as a data set of their own beside it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from scribbleseg import __version__
from scribbleseg.atomic import write_text
from scribbleseg.config import StrokesConfig
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.images import write_png
from scribbleseg.data.simulate import STYLES
from scribbleseg.data.simulate.image import simulate
from scribbleseg.data.strokes import generator_for, redraw_strokes
from scribbleseg.data.vector import rasterise, write_strokes
from scribbleseg.errors import ConfigError, DataError, nearest

#: Kept beside what was simulated: with which settings.
SETTINGS = "simulation.json"


@dataclass(frozen=True)
class Simulation:
    """What decides the strokes of an image, besides its mask and stem.

    Attributes:
        style: a name of ``STYLES``.
        seed: of all that is random.
        width_px: of the brush.
        min_area: smaller regions (px) get no stroke.
        length, drop, wrong: how the strokes are made worse, as :class:`StrokesConfig` has it.
    """

    style: str
    seed: int = 0
    width_px: float = 3.0
    min_area: int = 150
    length: float = 1.0
    drop: float = 0.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ConfigError("--style", "a known style", f"'{self.style}'", nearest(self.style, STYLES))
        if not 0 < self.width_px <= 4096:
            raise ConfigError("--width", "more than 0 and at most 4096 px", f"{self.width_px:g}", "try 3")


def simulate_dataset(
    root: Path,
    wanted: Simulation,
    *,
    out: Path | None = None,
    splits: Sequence[str] = (),
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Path:
    """Draw strokes on every image of a data set from its dense masks.

    The outcome is a folder that is a data set: ``scribbles/STEM.png``, ``strokes/STEM.json`` and a ``dataset.yaml`` that names
    the images, masks and splits where they are. What an image gets depends on its mask, its stem and ``wanted`` alone. Where
    some of it was made before with the same settings, the rest is made.

    Args:
        root: folder of the data set.
        wanted: style, seed and so on.
        out: folder to write; ``simulated/STYLE-SEED`` in ``root`` by default.
        splits: whose images are drawn on; all of the data set's by default.
        jobs: processes at work.
        progress: told how many images are done, of how many.

    Returns:
        The folder.

    Raises:
        ConfigError: unknown style, or the folder holds strokes of other settings.
        DataError: a mask is missing or cannot be read.
    """
    dataset = open_dataset(root)
    if dataset.shards is not None:
        raise DataError(root, "a plain folder", "a data set in shards", "draw on the folder it was made of")
    out = root / "simulated" / f"{wanted.style}-{wanted.seed}" if out is None else Path(out)
    stems = list(dict.fromkeys(stem for split in splits or dataset.spec.splits for stem in dataset.stems(split)))
    _claim(out, wanted)
    left = [s for s in stems if not (_label_file(out, s).is_file() and _line_file(out, s).is_file())]
    progress(len(stems) - len(left), len(stems))
    for done, _ in enumerate(_each(partial(_draw, dataset, wanted, out), left, jobs), len(stems) - len(left) + 1):
        progress(done, len(stems))
    write_text(out / "dataset.yaml", yaml.safe_dump(_spec(dataset, wanted, out), sort_keys=False, allow_unicode=True))
    return out


def _draw(dataset: Dataset, wanted: Simulation, out: Path, stem: str) -> str:
    """Write the strokes of one image, as lines and as labels, and return its stem."""
    mask = dataset.labels(stem, "masks")
    rng = generator_for(wanted.seed, stem, 3)
    strokes = simulate(mask, STYLES[wanted.style], rng, width_px=wanted.width_px, min_area=wanted.min_area)
    worse = StrokesConfig(length=wanted.length, drop=wanted.drop, wrong=wanted.wrong, seed=wanted.seed)
    strokes = redraw_strokes(strokes, stem, config=worse, num_classes=len(dataset.names))
    size = (mask.shape[0], mask.shape[1])
    write_strokes(_line_file(out, stem), strokes, size)
    write_png(_label_file(out, stem), rasterise(strokes, size))
    return stem


def _label_file(out: Path, stem: str) -> Path:
    return out / "scribbles" / f"{stem}.png"


def _line_file(out: Path, stem: str) -> Path:
    return out / "strokes" / f"{stem}.json"


def _claim(out: Path, wanted: Simulation) -> None:
    """Note the settings in the folder.

    Raises:
        ConfigError: it holds something else.
    """
    settings = json.dumps({"scribbleseg": __version__, **asdict(wanted)}, indent=2) + "\n"
    path = out / SETTINGS
    there = path.read_text(encoding="utf-8") if path.is_file() else None
    if there is None and out.is_dir() and any(out.iterdir()):
        raise ConfigError(out, "a new folder", "one with files in it", "name another with --out")
    if there is not None and there != settings:
        raise ConfigError(path, "the same settings as before", "others", "name another folder with --out")
    write_text(path, settings)


def _each(work: Callable[[str], str], stems: Sequence[str], jobs: int) -> Iterator[str]:
    """Yield as each image is done. After an error or an interrupt nothing new is begun."""
    jobs = min(jobs, len(stems))
    if jobs <= 1:
        for stem in stems:
            yield work(stem)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_leave_interrupts) as pool:
        rest = iter(stems)
        running: set[Future[str]] = {pool.submit(work, stem) for _, stem in zip(range(4 * jobs), rest, strict=False)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                running |= {pool.submit(work, stem) for _, stem in zip(done, rest, strict=False)}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """Let the process that was asked to stop decide what is finished first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _spec(dataset: Dataset, wanted: Simulation, out: Path) -> dict[str, Any]:
    """Return the ``dataset.yaml`` of the new folder."""

    def there(name: str) -> str:
        place = (dataset.root / name).resolve()
        try:
            return Path(os.path.relpath(place, out.resolve())).as_posix()
        except ValueError:  # on another drive
            return place.as_posix()

    spec = dataset.spec
    return spec.model_dump(mode="json", exclude_unset=True) | {
        "name": f"{spec.name}, {wanted.style} strokes",
        "names": dict(sorted(spec.names.items())),
        "images": there(spec.images),
        "scribbles": "scribbles",
        "strokes": "strokes",
        "masks": there(str(spec.masks)),
        "splits": {split: there(file) for split, file in spec.splits.items()},
    }
