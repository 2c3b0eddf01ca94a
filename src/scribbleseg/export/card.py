"""The model card: what a stranger has to know of a model, with nothing in it that is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from scribbleseg import __version__
from scribbleseg.config import RunConfig
from scribbleseg.errors import ConfigError
from scribbleseg.models.folder import TrainedModel
from scribbleseg.palette import hex_colours
from scribbleseg.reading import PLAIN
from scribbleseg.scores import shown

#: What stands for the repository's name until it has one.
PLACEHOLDER = "USER/NAME"

#: Keys of a summary of scores: the Hub's name of the metric, and ours.
METRICS = {
    "miou": ("mean_iou", "mean IoU"),
    "foreground_dice": ("dice", "mean Dice of all classes but the first"),
    "pixel_accuracy": ("accuracy", "pixel accuracy"),
    "boundary_miou": ("boundary_iou", "mean boundary IoU"),
    "hd95": ("hd95", "mean HD95"),
    "assd": ("assd", "mean ASSD"),
}

_LABELS = {
    "scribbles": "the scribbles",
    "random_walker": "labels that a random walker made from the scribbles",
    "masks": "the dense masks",
}


def model_card(
    model: TrainedModel,
    title: str,
    *,
    config: RunConfig | None = None,
    origin: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    license: str | None = None,
) -> ModelCard:
    """Return the card of a model.

    Args:
        model: the network.
        title: of the card, and the model's name in its index of scores.
        config: its training's, without places.
        origin: what ``run.json`` says.
        scores: what ``evaluate --json`` wrote; without them the card says that there are none.
        license: an identifier that the Hub knows, as ``mit``; without it the card says that none is stated.

    Raises:
        ConfigError: the scores are of other classes, or the licence is no identifier.
    """
    if scores is not None and list(scores["classes"]) != list(model.names):
        got = f"scores of {', '.join(scores['classes'])}"
        raise ConfigError("--scores", f"scores of {', '.join(model.names)}", got, "give the scores of this very model")
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        do = "see https://huggingface.co/docs/hub/repositories-licenses; `other` for one that is not listed"
        raise ConfigError("--license", "an identifier, as apache-2.0 or cc-by-nc-4.0", f"'{license}'", do)
    source = None if config is None else config.model.backbone
    results = None if scores is None else eval_results(scores)
    data = ModelCardData(
        library_name="scribbleseg",
        pipeline_tag="image-segmentation",
        tags=["image-segmentation", "semantic-segmentation", "weakly-supervised", "scribbles"],
        license=license,
        base_model=source if isinstance(source, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", source) else None,
        model_name=title if results else None,
        eval_results=results or None,
        metrics=[result.metric_type for result in results] if results else None,
    )
    environment = Environment(loader=PackageLoader("scribbleseg", "templates"), undefined=StrictUndefined, trim_blocks=True)
    body = environment.get_template("model_card.md.j2").render(
        title=_plain(title),
        names=model.names,
        network=_network(model),
        version=__version__,
        license=license,
        placeholder=PLACEHOLDER,
        classes=[(_plain(name), colour) for name, colour in zip(model.names, hex_colours(len(model.names)), strict=True)],
        training=None if config is None else _training(config),
        scores=None if scores is None else _scores(scores),
        sizes=_sizes(model),
        values=_values(model),
        origin=_origin(origin or {}),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def eval_results(scores: Mapping[str, Any]) -> list[EvalResult]:
    """Return the pooled scores as the Hub's index has them; what is not known is left out."""
    data = str(scores["data"])
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name="Semantic segmentation",
            dataset_type=re.sub(r"[^A-Za-z0-9._/-]+", "-", data),
            dataset_name=data,
            dataset_split=scores["split"],
            metric_type=kind,
            metric_name=f"{name} ({scores['distance_unit']})" if key in ("hd95", "assd") else name,
            metric_value=round(scores[key], 5),
        )
        for key, (kind, name) in METRICS.items()
        if scores.get(key) is not None
    ]


def _plain(text: str) -> str:
    """Return a text that can stand in a cell of a table: a class may have any name."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


def _network(model: TrainedModel) -> str:
    settings = model.segmenter.config
    kind = model.segmenter.backbone.settings.get("model_type", "")
    million = sum(p.numel() for p in model.segmenter.parameters()) / 1e6
    return f"a backbone of type *{kind}* with the decoder *{settings.decoder}*, {million:.1f} million weights"


def _sizes(model: TrainedModel) -> str:
    if model.longest_px:
        return f"Pictures of any size are brought to {model.longest_px} pixels on the longer side: what is tiny then is lost."
    return f"Pictures of any size are taken at their own scale, larger ones in windows of {model.window_px} pixels."


def _values(model: TrainedModel) -> str:
    if model.reading == PLAIN:
        return "It takes grey or RGB pictures of 8 or 16 bits."
    return "Which channels and values of a file it takes is in `preprocessor_config.json`, under `reading`; `read_rgb` does it."


def _training(config: RunConfig) -> dict[str, Any]:
    data, training, source = config.data, config.training, config.model.backbone
    kind = source.get("model_type") if isinstance(source, dict) else source
    start = "pretrained weights" if isinstance(source, str) and config.model.pretrained else "random weights"
    rows = {
        "data set": data.root.name if data.root else "not known",
        "labels": _LABELS[data.labels],
        "method": config.method,
        "losses": ", ".join(f"{name} × {term.weight:g}" for name, term in (config.losses or {}).items()),
        "backbone": f"{kind}, from {start}",
        "steps": training.max_steps,
        "batch": f"{training.batch_size} crops of {data.crop_px} px",
        "optimizer": f"{training.optimizer}, learning rate {training.lr:g}",
        "seed": config.seed,
    }
    return {
        "labels": rows["labels"],
        "data": _plain(str(rows["data set"])),
        "sparse": data.labels != "masks",
        "rows": [(name, _plain(str(value))) for name, value in rows.items()],
    }


def _scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    def cell(row: Mapping[str, Any], key: str, interval: Sequence[float | None] | None = None) -> str:
        value = shown(row.get(key), key)
        return value if interval is None or None in interval or value == "–" else f"{value} [{shown(interval)}]"

    pooled = [
        (
            f"{name} ({scores['distance_unit']})" if key in ("hd95", "assd") else name,
            cell(scores, key, scores["intervals"].get(key)),
        )
        for key, (_, name) in METRICS.items()
    ]
    rows = [
        [
            _plain(name),
            cell(row, "iou", row.get("iou_interval")),
            *(cell(row, key) for key in ("dice", "precision", "recall")),
        ]
        for name, row in scores["classes"].items()
    ]
    head = {key: _plain(str(scores[key])) for key in ("split", "data", "num_images")}
    return head | {"over": "volumes" if "volume_dice" in scores else "images", "pooled": pooled, "rows": rows}


def _origin(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine, packages = origin.get("machine") or {}, origin.get("packages") or {}
    device = machine.get("accelerator") or machine.get("processor")
    known = {
        "trained": origin.get("date"),
        "commit": origin.get("commit"),
        "seed": origin.get("seed"),
        "machine": f"{device}, {machine.get('cores')} cores, {machine.get('system')}" if device else None,
        "Python": origin.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version) or None,
    }
    return [(name, _plain(str(value))) for name, value in known.items() if value is not None]
