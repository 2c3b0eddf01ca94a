"""A folder for the Hugging Face Hub: the model folder, its card, and how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scribbleseg.atomic import atomic_folder, write_text
from scribbleseg.config import RECORD, dump_config, load_record, without_places
from scribbleseg.errors import ModelError
from scribbleseg.export.card import model_card
from scribbleseg.export.parity import Parity, compare, pictures
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, find_model, load_model, save_model
from scribbleseg.predict import probabilities
from scribbleseg.scores import read_scores
from scribbleseg.trees import from_json

CARD, TRAINING, ORIGIN = "README.md", "training_config.yaml", "provenance.json"

#: All that such a folder holds, and all that is ever uploaded of it.
FILES = (WEIGHTS, CONFIG, PREPROCESSOR, CARD, TRAINING, ORIGIN)


def export_hub(
    model_folder: Path | str,
    out: Path | str,
    *,
    scores: Path | str | None = None,
    license: str | None = None,
    images: Path | str | None = None,
) -> Parity:
    """Write a folder that can be uploaded as it is, and that ``load_model`` reads.

    It has the weights (safetensors), ``config.json``, ``preprocessor_config.json``, a card ``README.md``, and of a run
    folder's model ``training_config.yaml`` (folders by their names, no paths) and ``provenance.json``.

    Args:
        model_folder: a model or run folder.
        out: new folder; its name is the card's title.
        scores: what ``evaluate --json`` wrote of this model. If None, those of the run's report on the test split, where
            they are newer than the weights; else the card says that the model was not evaluated.
        license: an identifier that the Hub knows, as ``mit``.
        images: folder of pictures on which the written model must answer as the original does; pictures of noise if None.

    Raises:
        ConfigError: scores of other classes, or a licence that is no identifier.
        ModelError: the model folder is not whole, or the written one answers otherwise.
        StorageError: the folder exists, or cannot be written.
    """
    model, out, inner = load_model(model_folder), Path(out), find_model(model_folder)
    run = inner.parent
    config = without_places(load_record(run)) if (run / RECORD).is_file() else None
    origin = _read_origin(run / "run.json") if config is not None else {}
    found_scores = _known_scores(run, inner) if scores is None else Path(scores)
    tree = None if found_scores is None else read_scores(found_scores)
    card = model_card(model, out.resolve().name, config=config, origin=origin, scores=tree, license=license)
    with atomic_folder(out) as folder:
        save_model(folder, model)
        write_text(folder / CARD, str(card))
        if config is not None:
            write_text(folder / TRAINING, dump_config(config))
        if origin:
            write_text(folder / ORIGIN, json.dumps(origin, indent=2) + "\n")
        written = load_model(folder)

        def answer(rgb: Any) -> Any:
            return probabilities(written, rgb).numpy()

        found = compare(model, answer, pictures(model, images, 8, "float32"), "float32", folder / WEIGHTS)
        if found.difference != 0:
            got = f"probabilities {found.difference:.2g} off"
            raise ModelError(out, "the same answers from the written folder", got, "report it")
    return found


def _known_scores(run: Path, model: Path) -> Path | None:
    """Return the scores that the run's report has, if they are of its model as it is now."""
    path = run / "scores_test.json"
    if model.name != "model" or not path.is_file() or path.stat().st_mtime < (model / WEIGHTS).stat().st_mtime:
        return None
    return path


def _read_origin(path: Path) -> Mapping[str, Any]:
    try:
        tree = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
