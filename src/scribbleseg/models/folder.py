"""A trained model as a folder: weights as safetensors, everything else as JSON. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scribbleseg.atomic import atomic_path, write_text
from scribbleseg.config import DataConfig, ModelConfig
from scribbleseg.errors import ModelError, ScribblesegError, StorageError
from scribbleseg.models.backbone import build_backbone
from scribbleseg.models.segmenter import IMAGE_MEAN, IMAGE_STD, Segmenter
from scribbleseg.reading import PLAIN, Reading
from scribbleseg.trees import from_json

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"

#: In a run folder: the averaged networks of some steps, a model folder a step.
SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class TrainedModel:
    """A network with what is needed to use it.

    Attributes:
        segmenter: in evaluation mode.
        names: class names by id.
        window_px: side of the sliding window at prediction.
        longest_px: length the longer side of an image is brought to before; 0 for its own.
        reading: how image files are read for it.
    """

    segmenter: Segmenter
    names: tuple[str, ...]
    window_px: int
    longest_px: int = 0
    reading: Reading = PLAIN


def save_model(folder: Path, model: TrainedModel) -> None:
    """Write the folder; each file appears whole or not at all, the weights last."""
    segmenter = model.segmenter
    names = {str(k): name for k, name in enumerate(model.names)}
    config = {
        "architectures": ["ScribblesegSegmenter"],
        "model_type": "scribbleseg",
        "id2label": names,
        "label2id": {name: int(k) for k, name in names.items()},
        "segmenter": segmenter.config.model_dump(mode="json") | {"backbone": segmenter.backbone.settings, "pretrained": False},
        "num_parameters": sum(p.numel() for p in segmenter.parameters()),
    }
    preprocessor = {
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "do_rescale": True,
        "do_normalize": True,
        "do_resize": model.longest_px > 0,
        "window_px": model.window_px,
        "longest_px": model.longest_px,
        "reading": model.reading.model_dump(mode="json", exclude_none=True),
    }
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_text(folder / PREPROCESSOR, json.dumps(preprocessor, indent=2) + "\n")
    with atomic_path(folder / WEIGHTS) as temporary:
        state = {key: value.detach().cpu().contiguous() for key, value in segmenter.state_dict().items()}
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # what the system said is in its words alone
            raise StorageError(folder / WEIGHTS, "a disk with room", str(error), "free some space and run again") from None


def find_model(folder: Path | str) -> Path:
    """Return the model folder: this one, or the ``model`` in it where this is a run folder."""
    folder = Path(folder)
    inner = folder / "model"
    return inner if not (folder / CONFIG).is_file() and (inner / CONFIG).is_file() else folder


def load_model(folder: Path | str) -> TrainedModel:
    """Read a model folder, or a run folder that holds one as ``model``.

    Raises:
        ModelError: a file is missing, cut short or does not fit the others.
    """
    folder = find_model(folder)
    config, preprocessor = _read_json(folder / CONFIG), _read_json(folder / PREPROCESSOR)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(folder / WEIGHTS, "the model's weights", "no such file", "copy the whole model folder, or train again")
    try:
        settings = ModelConfig.model_validate(config["segmenter"])
        if isinstance(settings.backbone, str):  # a name would be looked up: a model folder stands on its own
            raise ValueError("the backbone is a name, not its settings")
        names = tuple(str(config["id2label"][str(k)]) for k in range(len(config["id2label"])))
        sizes = DataConfig(window_px=preprocessor["window_px"], longest_px=preprocessor["longest_px"])
        reading = Reading.model_validate(preprocessor.get("reading", {}))  # models of before have none
        if not sizes.window_px:
            raise ValueError("window_px is 0")
        backbone = build_backbone(settings.backbone, pretrained=False)
        segmenter = Segmenter(settings, len(names), backbone)
        segmenter.load_state_dict(load_file(folder / WEIGHTS))
    except ScribblesegError:
        raise
    except Exception as error:  # networks built from a stranger's settings trip in many ways
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            folder, "weights and configuration of one scribbleseg model", what, "copy the whole folder again"
        ) from None
    return TrainedModel(segmenter.eval(), names, sizes.window_px, sizes.longest_px, reading)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            path, "a file of a model folder", "no such file", "give the folder that `train` wrote, with all its files"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(path, "a JSON file", str(error), "copy the model folder again") from None
    if not isinstance(tree, dict):
        raise ModelError(path, "a JSON object", type(tree).__name__, "copy the model folder again")
    return tree
