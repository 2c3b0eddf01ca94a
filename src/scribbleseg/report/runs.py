"""What a report knows of its runs: their folders read, their scores at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scribbleseg.config import RECORD, RunConfig, dump_config, load_record, without_places
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.evaluate import evaluate, fingerprint
from scribbleseg.report.curves import Style, run_style
from scribbleseg.scores import read_scores, write_scores
from scribbleseg.trees import from_json


@dataclass(frozen=True)
class Run:
    """What a report knows of a run.

    Attributes:
        scores: tree of ``evaluate.summary`` with ``provenance``.
    """

    title: str
    folder: Path
    style: Style
    config: RunConfig
    yaml: str
    provenance: Mapping[str, Any]
    scores: Mapping[str, Any]


def read_runs(
    folders: Sequence[Path], titles: Sequence[str] | None, data: Path | None, split: str, device: str
) -> tuple[list[Run], Dataset]:
    """Return the runs and the data set they are scored on: that of the first run if ``data`` is None."""
    configs = [load_record(folder) for folder in folders]
    root = data or configs[0].data.root
    if root is None:
        raise ConfigError(folders[0] / RECORD, "data.root, the data set's folder", "nothing", "give it with --data DATASET")
    dataset = open_dataset(root)
    parts = zip(titles or _folder_titles(folders), folders, map(without_places, configs), strict=True)
    return [
        Run(
            title,
            folder,
            run_style(k),
            config,
            dump_config(config),
            _read_run_json(folder / "run.json"),
            _scores(folder, dataset, split, device),
        )
        for k, (title, folder, config) in enumerate(parts)
    ], dataset


def _folder_titles(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]


def _read_run_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "the JSON file that `train` wrote", str(error), "restore or remove it") from None
    return tree if isinstance(tree, dict) else {}


def _scores(folder: Path, dataset: Dataset, split: str, device: str) -> Mapping[str, Any]:
    """Return the run's scores: those on disk if they are of this very model, split and masks, else new ones."""
    path, now = folder / f"scores_{split}.json", fingerprint(folder, dataset, split)
    if path.is_file():
        scores = read_scores(path)
        if scores.get("fingerprint") == now:
            return scores
    found = evaluate(folder, dataset.root, split=split, device=device)
    names: dict[str, Any] = {"source": folder.resolve().name, "data": dataset.root.resolve().name}
    write_scores(path, found, **names, split=split, fingerprint=now)
    return read_scores(path)
