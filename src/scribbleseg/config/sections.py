"""What the sections of a run's configuration hold: data, network, losses, training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a configuration; it refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RandomWalkerConfig(Section):
    """Dense labels made from the strokes before training, see ``data/random_walker.py``.

    Attributes:
        beta: how much a difference in colour hinders the walker, relative to the picture's own contrast.
        min_probability: a pixel whose likeliest class is less likely than this stays unlabelled.
    """

    beta: Annotated[float, Field(ge=0)] = 100.0
    min_probability: Fraction = 0.0


class StrokesConfig(Section):
    """Strokes drawn at another width, or made worse on purpose to see what a method loses by it, see ``data/strokes.py``.

    Attributes:
        width_px: draw the vector strokes again with brushes of this width; 0 takes the labels as they are.
        length: share of each stroke that is kept, around its middle; 0 leaves a dot.
        drop: chance that a stroke is lost.
        wrong: chance that a stroke has a wrong class.
        seed: of which are lost or wrong; apart from the run's seed, so that all runs see the same strokes.
    """

    width_px: Annotated[float, Field(ge=0, le=4096)] = 0.0
    length: Fraction = 1.0
    drop: Fraction = 0.0
    wrong: Fraction = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def changes_any(self) -> bool:
        """Say whether any stroke is to be another than was drawn."""
        return self.width_px > 0 or self.length < 1 or self.drop > 0 or self.wrong > 0


class DataConfig(Section):
    """Where samples come from and how they are varied.

    Attributes:
        root: folder with a ``dataset.yaml``.
        labels: what training reads: the strokes, what a random walker makes of them, or the dense masks (the upper bound).
        random_walker: how it walks; read where ``labels`` is ``random_walker``.
        strokes: how the strokes are changed before anything reads them; not with ``labels: masks``.
        train_split, val_split: names of splits; validation is skipped where its split has no masks.
        train_images: train on at most so many images of the split, evenly chosen; 0 for all.
        longest_px: images are shrunk or grown so that their longer side has this length; 0 keeps their size.
            Predictions come back at the original size.
        crop_px: side of the square the network trains on.
        window_px: side of the sliding window at prediction; 0 takes ``crop_px``. Smaller images go through whole.
        scale: range of the random zoom.
        flip: chance of a mirror image.
        colour: strength of the brightness, contrast and saturation jitter.
        cache_mib: memory for images that were read and shrunk once, of each process that trains, shared out among its workers;
            0 reads them each time. What a run learns is the same.
        num_workers: processes that load data; 0 loads in the training process.
        timeout_s: seconds after which such a process counts as hanging; 0 waits for ever.
    """

    root: Path | None = None
    labels: Literal["scribbles", "random_walker", "masks"] = "scribbles"
    random_walker: RandomWalkerConfig = RandomWalkerConfig()
    strokes: StrokesConfig = StrokesConfig()
    train_split: str = "train"
    val_split: str = "val"
    train_images: Annotated[int, Field(ge=0)] = 0
    longest_px: Annotated[int, Field(ge=0, le=100_000)] = 0
    crop_px: Annotated[int, Field(ge=32)] = 224
    window_px: Annotated[int, Field(ge=0)] = 0
    scale: tuple[Positive, Positive] = (0.75, 1.5)
    flip: Fraction = 0.5
    colour: Fraction = 0.2
    cache_mib: Annotated[int, Field(ge=0)] = 512
    num_workers: Annotated[int, Field(ge=0)] = 0
    timeout_s: Annotated[float, Field(ge=0)] = 300.0

    @field_validator("window_px")
    @classmethod
    def _whole_windows(cls, window_px: int) -> int:
        if 0 < window_px < 32:
            raise ValueError("0, or at least 32")
        return window_px

    @field_validator("scale")
    @classmethod
    def _low_to_high(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the smaller factor first")
        return scale


class ModelConfig(Section):
    """The network.

    Attributes:
        backbone: a local folder, a hub name, or a mapping with ``model_type`` and that type's own settings
            (random weights), all read by ``transformers``. The default is a small ResNet without pretraining: it needs
            no download and learns fast; a pretrained backbone is better wherever one can be had. The type ``unet`` is
            ours (``hidden_sizes``, ``depths``, ``stride``): for borders as fine as the image, with ``decoder: unet``.
        pretrained: load the folder's or hub's weights, not just its architecture.
        decoder: ``upernet``, the lighter ``fpn``, or ``unet``, whose answer is as fine as the backbone's finest map.
        channels: width of the decoder.
        detail_channels: width of the convolutional stem that gives plain ViTs their finest map; 0 for none.
        feature_dim: length D of a deep feature.
        dropout: chance of dropping a channel before the class head.
    """

    backbone: str | dict[str, Any] = Field(
        default_factory=lambda: {
            "model_type": "resnet",
            "embedding_size": 32,
            "hidden_sizes": [32, 64, 128, 256],
            "depths": [2, 2, 2, 2],
            "layer_type": "basic",
        }
    )
    pretrained: bool = True
    decoder: str = "fpn"
    channels: Count = 64
    detail_channels: Annotated[int, Field(ge=0)] = 32
    feature_dim: Count = 16
    dropout: Fraction = 0.1


class LossTerm(BaseModel):
    """One loss of the objective. Keys besides these are its constructor's numbers.

    Attributes:
        weight: its factor once the ramp is over.
        start: share of the run before which it is off.
        ramp: share of the run over which its weight then grows.
        curve: how it grows: ``linear``, or ``sigmoid``, exp(−5(1−t)²) for t from 0 to 1, the custom with mean teachers.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    weight: Annotated[float, Field(ge=0)] = 1.0
    start: Fraction = 0.0
    ramp: Fraction = 0.0
    curve: Literal["linear", "sigmoid"] = "linear"

    def weight_at(self, progress: float) -> float:
        """Return the weight at a share of the run."""
        if progress < self.start:
            return 0.0
        if self.ramp == 0:
            return self.weight
        t = min(1.0, (progress - self.start) / self.ramp)
        return self.weight * (t if self.curve == "linear" else math.exp(-5 * (1 - t) ** 2))

    def numbers(self) -> dict[str, Any]:
        """Return the constructor's numbers."""
        return dict(self.model_extra or {})


class TrainingConfig(Section):
    """How the weights are moved.

    Attributes:
        max_steps: length of the run in optimizer steps.
        batch_size: images per step, over all processes.
        optimizer: ``adamw``, or ``sgd`` with ``momentum``, as most of the field's older recipes have it.
        momentum: of SGD.
        lr: the peak rate.
        backbone_lr_factor: the backbone's rate over ``lr``; None takes 0.1 for pretrained weights and 1 for random ones.
        warmup: share of the run over which the rate rises linearly.
        poly_power: exponent of the decay to zero.
        grad_clip: largest gradient norm.
        ema_decay: decay of the averaged weights that are validated and saved; 0 turns averaging off.
        teacher_noise: spread of the noise, in units of the image's [0, 1], on what the averaged network sees where it
            teaches (loss ``teacher_consistency``).
        branch_dropout: chance of dropping a channel of the maps that a second branch gets (loss ``dynamic_mixing``).
        val_every: steps between validations.
        val_images: at most so many validation images, evenly chosen; 0 for all.
        snapshots: how many averaged networks are kept on the way, evenly spaced from before the first step, as model folders
            ``snapshots/STEP``; the report then shows how the deep features came about.
        devices: processes a machine, each with a device of its own, that share every batch. Where torchrun or SLURM starts the
            processes, theirs count.
        num_nodes: machines.
        strategy: ``ddp``: each process holds the whole network. ``fsdp``: each holds some rows of weights, averages and
            moments, for networks that a device has no room for; checkpoints are folders then.
        precision: ``auto`` takes bf16 autocast where the device has it.
        threads: CPU threads; 0 leaves torch's choice.
        progress_bar: show one.
    """

    max_steps: Count = 2000
    batch_size: Count = 8
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    lr: Positive = 1e-3
    backbone_lr_factor: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Fraction = 0.05
    poly_power: Positive = 1.0
    grad_clip: Positive = 5.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    teacher_noise: Annotated[float, Field(ge=0)] = 0.1
    branch_dropout: Fraction = 0.5
    val_every: Count = 200
    val_images: Annotated[int, Field(ge=0)] = 0
    snapshots: Annotated[int, Field(ge=0)] = 0
    devices: Count = 1
    num_nodes: Count = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(lambda v: str(v) if isinstance(v, int) else v)] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    progress_bar: bool = True
