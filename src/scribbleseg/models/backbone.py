"""Backbones: the types of ``transformers`` (the only file that knows that library), and a U-Net of our own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from scribbleseg.errors import ConfigError, ModelError, nearest
from scribbleseg.models.unet import UNetEncoder, UNetSettings
from scribbleseg.trees import from_json

NUM_MAPS = 4


class Backbone(nn.Module):
    """An image encoder: normalised image in, feature maps out, finest first; four of them from ``transformers``.

    Args:
        encoder: image to a list of maps, or to an output of ``transformers`` that holds them.
        settings: see below.
        side: of an image that the encoder can take.

    Attributes:
        channels: of each map.
        strides: of each map; all the same for plain vision transformers.
        multiple: height and width of the input must be multiples of this.
        settings: the encoder's configuration, enough to build it again with random weights.
    """

    def __init__(self, encoder: nn.Module, settings: Mapping[str, Any], side: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings: dict[str, Any] = dict(settings)
        maps = self._probe(side)
        self.channels = tuple(int(m.shape[1]) for m in maps)
        self.strides = tuple(side // int(m.shape[-1]) for m in maps)
        self.multiple = max(self.strides)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Return the maps, each (B, channels[k], H/strides[k], W/strides[k])."""
        found = self.encoder(image)
        return found if isinstance(found, list) else list(found.feature_maps)

    def _probe(self, side: int) -> list[Tensor]:
        """Return the maps of an empty image, to read their shapes off."""
        self.eval()
        try:
            with torch.no_grad():
                return self(torch.zeros(1, 3, side, side))
        except (ValueError, RuntimeError) as error:
            kind = self.settings.get("model_type", "")
            raise ModelError(
                kind, f"settings of a {kind} backbone for RGB images", _first_line(error), "correct its settings"
            ) from None
        finally:
            self.train()


#: Types whose maps all have one stride.
_PLAIN = {"dinov2", "dinov2_with_registers", "dinov3_vit", "vitdet", "beit", "vitpose_backbone", "pixio"}


def build_backbone(source: str | Mapping[str, Any], *, pretrained: bool) -> Backbone:
    """Make a backbone.

    Args:
        source: a local folder with ``config.json`` (never asks the network), a hub name, or a mapping with
            ``model_type`` and that type's settings (random weights); the type ``unet`` is ours.
        pretrained: load weights where ``source`` has them.

    Raises:
        ModelError: unknown type, missing file, wrong setting, or a hub that cannot be reached.
        ConfigError: a wrong setting of a U-Net.
    """
    if not isinstance(source, str) and source.get("model_type") == "unet":
        return _unet(source)
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    config = _read_config(source)
    try:
        cls = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    except KeyError:
        known = _known_types()
        raise ModelError(
            source, "a type that can serve as a backbone", config.model_type, nearest(config.model_type, known)
        ) from None
    _choose_maps(config)
    if pretrained and isinstance(source, str):
        if Path(source).is_dir() and not any(Path(source).glob("*.safetensors")):
            raise ModelError(
                source, "weights as *.safetensors", "none in the folder", "copy them there, or set model.pretrained=false"
            )
        try:
            with _quiet():
                encoder = cls.from_pretrained(
                    source, config=config, use_safetensors=True, local_files_only=Path(source).is_dir()
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                source, "weights that fit the configuration", _first_line(error), "check the folder or the name"
            ) from None
    else:
        try:
            encoder = cls(config)
            _spread(encoder)
        except Exception as error:  # each type raises what it likes, a missing optional package included
            raise ModelError(
                source, f"settings of a {config.model_type} backbone", _first_line(error), "correct them"
            ) from None
    if getattr(encoder, "_supports_sdpa", False):
        # On a CPU plain attention is a third faster than the fused kernel, forward and backward (docs/development/notes.md).
        encoder.set_attn_implementation("sdpa" if torch.cuda.is_available() else "eager")
    settings = json.loads(config.to_json_string(use_diff=False))
    settings = {k: v for k, v in settings.items() if not k.startswith("_")}  # no path of this machine
    patch = int(config.patch_size) if isinstance(getattr(config, "patch_size", None), int) else 4
    return Backbone(encoder, settings, 8 * patch if config.model_type in _PLAIN else 32 * max(4, patch))


def _unet(source: Mapping[str, Any]) -> Backbone:
    try:
        settings = UNetSettings.model_validate(dict(source))
    except ValidationError as error:
        raise ConfigError.from_pydantic(error, "backbone unet", UNetSettings) from None
    return Backbone(UNetEncoder(settings), settings.model_dump(mode="json"), settings.stride * 2 ** len(settings.hidden_sizes))


def _spread(encoder: nn.Module) -> None:
    """Draw the matrices of a network without weights at a scale that keeps the variance from layer to layer.

    The library draws all of them with a spread of 0.02, made for wide networks; narrow ones then learn very slowly.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")


def _read_config(source: str | Mapping[str, Any]) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if isinstance(source, str) and not Path(source).is_dir():
        if Path(source).is_absolute() or source.startswith("."):
            raise ModelError(source, "a folder with a backbone", "no such folder", "check the path")
        try:
            return AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise ModelError(
                source, "a hub name or a local folder", _first_line(error), "check the name, or give a folder"
            ) from None
    if isinstance(source, str):
        path = Path(source) / "config.json"
        try:
            settings = from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(path, "the backbone's configuration", _first_line(error), "copy the whole folder") from None
    else:
        settings = dict(source)
    kind = settings.pop("model_type", None) if isinstance(settings, dict) else None
    if kind not in CONFIG_MAPPING:
        raise ModelError(source, "model_type, unet or a type of transformers", repr(kind), nearest(str(kind), _known_types()))
    if not isinstance(source, str):  # the library takes any key and forgets what it does not know
        known = [*CONFIG_MAPPING[kind]().to_dict(), *CONFIG_MAPPING[kind].attribute_map]
        for key in settings:
            if key not in known:
                raise ModelError(f"backbone {kind}", "a known setting", f"'{key}'", nearest(key, known))
    try:
        config = CONFIG_MAPPING[kind](**settings)
        for key, value in vars(config).items():  # defaults are tuples where the models want lists
            if isinstance(value, tuple) and key in ("hidden_sizes", "depths"):
                setattr(config, key, list(value))
        return config
    except Exception as error:  # transformers raises several unrelated types for a wrong setting
        raise ModelError(source, f"settings of a {kind} backbone", _first_line(error), "correct them") from None


def _choose_maps(config: Any) -> None:
    """Ask for four maps: the last four stages, or four evenly spaced blocks of a plain transformer."""
    stages = [name for name in config.stage_names if name != "stem"]
    if len(stages) < NUM_MAPS:
        raise ModelError(config.model_type, f"at least {NUM_MAPS} stages", str(len(stages)), "choose a deeper backbone")
    if config.model_type in _PLAIN:
        chosen = [stages[(k + 1) * len(stages) // NUM_MAPS - 1] for k in range(NUM_MAPS)]
    else:
        chosen = stages[-NUM_MAPS:]
    config.out_features = chosen


def _known_types() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES

    return ["unet", *MODEL_FOR_BACKBONE_MAPPING_NAMES]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own progress bar out of ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
