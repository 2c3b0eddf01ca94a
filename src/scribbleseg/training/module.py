"""The Lightning module: one step, one validation, the optimizer and its schedule."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from scribbleseg.config import RunConfig
from scribbleseg.data.loader import generator_for
from scribbleseg.errors import ConfigError, OutOfMemoryError, ScribblesegError, TrainingError
from scribbleseg.losses import Objective, Ranks
from scribbleseg.memory import begin_again, shortage
from scribbleseg.metrics import counts
from scribbleseg.models.branch import Branch
from scribbleseg.models.folder import TrainedModel
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.predict import predict_mask
from scribbleseg.records import Batch, Output
from scribbleseg.training.halves import in_halves
from scribbleseg.training.sharded import fill, shard


class SegmentationModule(pl.LightningModule):
    """Trains a segmenter; validates and keeps its exponential moving average.

    Args:
        config: resolved.
        names: class names by id.
    """

    def __init__(self, config: RunConfig, names: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.names = config, names
        self.segmenter = Segmenter(config.model, len(names))
        crop, multiple = config.data.crop_px, self.segmenter.multiple
        if crop % multiple:
            fitting = f"{crop // multiple * multiple or multiple} or {(crop // multiple + 1) * multiple}"
            raise ConfigError("data.crop_px", f"a multiple of {multiple}, as the backbone needs", str(crop), f"use {fitting}")
        self.objective = Objective(config.losses)
        wanted = "branch_logits" in self.objective.needs()
        self.branch = Branch(self.segmenter, config.training.branch_dropout) if wanted else None
        self.averaged = AveragedModel(self.segmenter, multi_avg_fn=_moving_average(config.training.ema_decay))
        self.averaged.requires_grad_(False)
        self.first = deepcopy(self.segmenter) if "first_features" in self.objective.needs() else None
        if self.first is not None:
            self.first.requires_grad_(False)
        # Of a network in parts, one that is whole and can predict: kept in a list, so that it is no part of this module.
        self._plain: list[Segmenter] = []
        self.halved = False  # whether memory ran out, and batches go through the network half by half
        self._saved: int | None = None
        self._validated: TrainedModel | None = None
        self._confusion = np.zeros((len(names), len(names)), dtype=np.int64)

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        return min(1.0, self.global_step / self.config.training.max_steps)

    def configure_model(self) -> None:
        """Leave each process its rows of the networks, if the strategy is such."""
        if self.config.training.strategy != "fsdp" or self._plain or not dist.is_initialized():
            return
        self._plain.append(deepcopy(self.segmenter).requires_grad_(False))
        for network in (self.segmenter, self.branch, self.averaged.module, self.first):
            if network is not None:
                shard(network, self.device_mesh["data_parallel"])

    def trained_model(self) -> TrainedModel:
        """Return the averaged network with what prediction needs. Where networks are in parts, all ranks call it."""
        data = self.config.data
        network = self.averaged.module
        if self._plain:
            fill(plain := self._plain[0].to(self.device), network)
            network = plain
        assert isinstance(network, Segmenter)
        return TrainedModel(network.eval(), self.names, data.window_px or data.crop_px, data.longest_px)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, since Lightning's own way refuses frozen records; raise what a worker could not read."""
        if isinstance(batch, ScribblesegError):
            raise batch
        return batch.to(device) if isinstance(batch, Batch) else batch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make the step's random draws (dropout, noise) depend on the seed, the step and the rank alone."""
        self._begin_draws()

    def _begin_draws(self) -> None:
        rank = (self.global_rank,) if self.global_rank else ()
        torch.manual_seed(generator_for(self.config.seed, 3, self.global_step, *rank).initial_seed())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective of one batch."""
        output = self._seen(self.segmenter, batch.image, self.branch)
        needs = self.objective.needs(self.progress)
        if "teacher_logits" in needs:
            output = replace(output, teacher_logits=self._taught(batch.image))
        if needs & {"teacher_clean_logits", "teacher_features"}:
            seen = self._calmly(self.averaged, batch.rgb)
            output = replace(output, teacher_clean_logits=seen.logits, teacher_features=seen.features)
        if "first_features" in needs:
            output = replace(output, first_features=self._calmly(self.first, batch.image).features)
        total, means = self.objective(output, batch, self.progress, self._ranks())
        if not bool(torch.isfinite(total)):
            shown = {name: f"{name}={float(value.detach()):.4g}" for name, value in means.items()}
            bad = [text for name, text in shown.items() if not bool(torch.isfinite(means[name]))]
            sound = [text for text in shown.values() if text not in bad]
            got = ", ".join(bad or ["a total of terms that are finite alone"])
            raise self._not_finite(f", batch of {', '.join(batch.stems)}", "loss", f"{got} ({', '.join(sound) or 'no other'})")
        for name, value in means.items():
            self.log(f"train/{name}", value.detach(), prog_bar=True)
        self.log("train/total", total.detach(), prog_bar=True)
        return total

    def _not_finite(self, where: str, what: str, got: str) -> TrainingError:
        """Return the error. The run stops: a step left out would be another run than the one that was asked for."""
        kept = "none yet" if self._saved is None else f"of step {self._saved}"
        return TrainingError(
            f"step {self.global_step + 1}{where}",
            f"a finite {what}",
            f"{got}; last good checkpoint: {kept}",
            "look at these images; else begin a new run with a lower training.lr, or training.precision=32: "
            "--resume would do the same steps again",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the step, for what is said when a later one fails."""
        self._saved = int(checkpoint["global_step"])

    on_load_checkpoint = on_save_checkpoint

    def configure_gradient_clipping(self, optimizer: Any, *words: Any, **more: Any) -> None:
        """Clip, and stop before a gradient that is not finite spoils weights that a checkpoint would then hold."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.training.grad_clip)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not bool(torch.isfinite(norm)):
            raise self._not_finite("", "gradient", f"a norm of {float(norm):.4g}, of a finite loss")

    def _ranks(self) -> Ranks:
        """Return the processes that share the batch; what they draw together depends on the seed and the step alone."""
        number, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        return Ranks(number, rank, generator_for(self.config.seed, 4, self.global_step))

    @torch.no_grad()
    def _taught(self, image: Tensor) -> Tensor:
        """Return the scores of the averaged network, without dropout, for the image under noise of at most twice its spread."""
        spread = self.config.training.teacher_noise
        if spread:
            image = (image + (torch.randn_like(image) * spread).clamp(-2 * spread, 2 * spread)).clamp(0, 1)
        return self._calmly(self.averaged, image).logits

    @torch.no_grad()
    def _calmly(self, network: nn.Module | None, image: Tensor) -> Output:
        """Return what a network says of a batch without dropout, and without learning from it."""
        assert network is not None
        return self._seen(network.eval(), image)

    def _seen(self, network: nn.Module, image: Tensor, *words: Any) -> Output:
        """Return what a network says of a batch, at once or in halves."""
        output: Output = in_halves(network, image, *words) if self.halved else network(image, *words)
        return output

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Step, and update the moving average at once: callbacks that save the state come next.

        Where memory runs out, the step is done once more with the batch in halves, as are all that follow.

        Raises:
            OutOfMemoryError: it ran out again, or the batch cannot be halved.
        """
        computed = False

        def closure() -> Any:
            nonlocal computed
            result = optimizer_closure()
            computed = True
            return result

        def step() -> None:
            super(SegmentationModule, self).optimizer_step(epoch, batch_idx, optimizer, closure)

        reason = shortage(step)
        if reason and not (computed or self.halved or dist.is_initialized() or self.config.training.batch_size < 2):
            now = "the batch goes through the network in two halves from here on, one more forward pass a step"
            begin_again(f"step {self.global_step + 1}", reason, now)
            self.halved = True
            self._begin_draws()
            reason = shortage(step)
        if reason:
            half = "half a batch" if self.halved else "a batch"
            expected = f"memory for {half} of {self.config.training.batch_size} crops of {self.config.data.crop_px} px"
            do = "free some and --resume, or begin a new run with a smaller training.batch_size or data.crop_px"
            raise OutOfMemoryError(f"step {self.global_step + 1}", expected, reason[:200], do)
        self.averaged.update_parameters(self.segmenter)

    def on_validation_epoch_start(self) -> None:
        """Forget earlier counts."""
        self._confusion[:] = 0
        self._validated = self.trained_model()

    def validation_step(self, item: tuple[np.ndarray, np.ndarray] | None, batch_idx: int) -> None:
        """Predict one whole image and count."""
        if item is None:
            return
        assert self._validated is not None
        rgb, mask = item
        prediction = predict_mask(self._validated, rgb)
        self._confusion += counts.confusion_matrix(mask, prediction, len(self.names))

    def on_validation_epoch_end(self) -> None:
        """Log the scores, pooled over the images of all ranks."""
        if dist.is_initialized():
            total = torch.from_numpy(self._confusion).to(self.device)
            dist.all_reduce(total)
            self._confusion[:] = total.cpu().numpy()
        self.log("val/miou", counts.mean_present(counts.iou(self._confusion)), prog_bar=True)
        self.log("val/dice", counts.mean_present(counts.dice(self._confusion)[1:]))
        self.log("val/pixel_accuracy", counts.pixel_accuracy(self._confusion))

    def configure_optimizers(self) -> Any:
        """Return AdamW or SGD (a smaller rate for the backbone, no decay on vectors) with warm-up and poly decay."""
        training, model = self.config.training, self.config.model
        factor = training.backbone_lr_factor or (0.1 if model.pretrained and isinstance(model.backbone, str) else 1.0)
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        trained = [*self.segmenter.named_parameters(), *(self.branch.named_parameters() if self.branch is not None else ())]
        for name, parameter in trained:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
        settings = [
            {
                "params": parameters,
                "lr": training.lr * (factor if in_backbone else 1.0),
                "weight_decay": training.weight_decay if is_matrix else 0.0,
            }
            for (in_backbone, is_matrix), parameters in groups.items()
        ]
        optimizer: torch.optim.Optimizer
        if training.optimizer == "sgd":
            optimizer = torch.optim.SGD(settings, momentum=training.momentum)
        else:
            optimizer = torch.optim.AdamW(settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int) -> float:
        training = self.config.training
        done = min(1.0, step / training.max_steps)
        rising = (step + 1) / (training.warmup * training.max_steps + 1)
        return float(min(1.0, rising) * (1 - done) ** training.poly_power)


def _moving_average(decay: float) -> Any:
    """Return the update of an exponential moving average that starts as a plain mean, so early weights fade fast."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        n = float(num_averaged)
        share = max(1.0 - decay, 1.0 / (1.0 + n)) if decay else 1.0
        torch._foreach_lerp_(averaged, current, share)

    return update
