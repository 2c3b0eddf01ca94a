"""One training run: from a configuration to a run folder with a model in it."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch.utils.data import DataLoader, Dataset as TorchDataset

from scribbleseg.atomic import clear_unfinished, write_text
from scribbleseg.config import RECORD, RunConfig, dump_config, load_record
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.loader import EveryNth, evenly, training_loader, training_stems
from scribbleseg.data.random_walker import require_walker, with_random_walker
from scribbleseg.data.strokes import with_strokes
from scribbleseg.data.training_labels import check_training_labels
from scribbleseg.environment import restarts
from scribbleseg.errors import ConfigError
from scribbleseg.models.folder import SNAPSHOTS, save_model
from scribbleseg.provenance import has_bf16, provenance
from scribbleseg.stopping import StopRequest
from scribbleseg.training.checkpoint_file import LAST, has_checkpoint, read_lazily
from scribbleseg.training.checkpoints import AtomicCheckpointIO, Snapshots, checkpoint_callbacks, mend
from scribbleseg.training.faults import in_our_words
from scribbleseg.training.history import history_logger
from scribbleseg.training.module import SegmentationModule
from scribbleseg.training.progress import ProgressBar
from scribbleseg.training.ranks import first, meeting, places, strategy
from scribbleseg.training.settings import changes, completed
from scribbleseg.training.sharded import load
from scribbleseg.training.stopping import StopAtStep

#: What those should know who leave a class out where it is.
_ALL_DRAWN = (
    "{} a class that nobody drew in an image for absent there, and {} of {} images have strokes of one class alone: "
    "if others are in them, draw these too, or train with --method=dfr"
)


class _ValidationItems(TorchDataset[tuple[np.ndarray, np.ndarray] | None]):
    """Whole images with their dense masks. A rank that gets no image gets None: it must take part all the same."""

    def __init__(self, dataset: Dataset, stems: tuple[str, ...]) -> None:
        self.dataset, self.stems = dataset, stems

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int | None) -> tuple[np.ndarray, np.ndarray] | None:
        if index is None:
            return None
        rgb = self.dataset.rgb(self.stems[index])
        return rgb, self.dataset.labels(self.stems[index], "masks", rgb.shape[:2])


def train(config: RunConfig, out: Path | str, *, resume: bool = False) -> Path:
    """Train a network and return the folder of the finished model.

    Args:
        config: of the run; ``data.root`` must be set.
        out: run folder. It gets ``config.yaml``, ``run.json`` (seed, versions, commit), ``metrics.csv``, ``checkpoints/``
            (``last``, the ``previous`` one and ``best``) and ``model/``, the averaged weights at the last step, which no mask
            has touched. Where the validation split has masks, ``best/`` is the same at the step of the best validation mIoU,
            and ``snapshots/STEP/`` those of ``training.snapshots``. With ``labels:
            random_walker`` its labels are in ``random_walker/``; a resumed run keeps those it began with.
        resume: go on from ``checkpoints/last.ckpt``, where that is damaged from ``previous.ckpt``; the result is that of an
            undisturbed run, bit for bit.

    Raises:
        ConfigError: nothing to resume, the folder already holds a run, or ``data.strokes`` is set where masks are read.
        DataError: the data set is not usable; every training label is read before the first step.
        StoppedError: SIGTERM or Ctrl-C came; the step under way was finished and is in ``checkpoints/last.ckpt``.
        TrainingError: the loss is not finite.
        StorageError: the disk is full or cannot be written.
    """
    with meeting():
        return _train(_complete(config), Path(out), resume)


def _train(config: RunConfig, out: Path, resume: bool) -> Path:
    assert config.data.root is not None
    places(config.training)  # refuses what cannot be shared
    dataset = with_strokes(open_dataset(config.data.root), config.data)
    walks = config.data.labels == "random_walker"
    if walks:
        require_walker()
    stems, validated = training_stems(dataset, config.data), _validation_stems(dataset, config)
    last = out / "checkpoints" / LAST
    resume = resume or (restarts() > 0 and has_checkpoint(out))
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    torch.manual_seed(config.seed)
    module = SegmentationModule(config, dataset.names)

    def prepare() -> None:
        labels = check_training_labels(dataset, stems, "scribbles" if walks else config.data.labels)
        if labels.one_class and (losses := module.objective.names_that_need("drawn")):
            who = f"{' and '.join(losses)} take{'s' if len(losses) == 1 else ''}"
            notice = _ALL_DRAWN.format(who, labels.one_class, len(stems))
            print(f"scribbleseg: {notice}", file=sys.stderr, flush=True)
        for stem in validated or ():
            dataset.labels(stem, "masks", dataset.size(stem))
        _claim(out, config, resume)
        if walks:
            every = 0.1 if sys.stderr.isatty() else 60
            shown = Tqdm(stems, desc="random walker", mininterval=every, disable=not config.training.progress_bar)
            numbers = config.data.random_walker, config.data.longest_px
            with_random_walker(dataset, shown, *numbers, out / "random_walker", keep=resume)

    def keep(folder: Path) -> None:
        model = replace(module.trained_model(), reading=dataset.spec.reading)  # of all ranks, where each has a part
        first(lambda: save_model(folder, model))

    first(prepare)
    if walks:
        dataset = replace(dataset, walked=(out / "random_walker").resolve())
    with StopRequest(interrupts=True) as request, _quiet_lightning(), in_our_words(out, stop := StopAtStep(request, last)):
        logger = history_logger(out, last if resume else None)
        trainer = _trainer(config, out, [logger, *_extra_loggers(out)], validated is not None, keep, stop)

        def place() -> tuple[int, int]:
            return trainer.global_rank, trainer.world_size

        validation = None if validated is None else _validation_loader(dataset, validated, place)
        loader = training_loader(dataset, config, lambda: trainer.global_step, place)
        trainer.fit(module, loader, validation, ckpt_path=str(last) if resume else None, weights_only=True)

    keep(out / "model")
    best = out / "checkpoints" / "best.ckpt"
    if best.exists():
        load(module, read_lazily(best)["state_dict"])
        keep(out / "best")
    return out / "model"


def _complete(config: RunConfig) -> RunConfig:
    """Return the configuration with every loss's numbers written out, and its places as absolute paths."""
    config = config.resolved()
    if config.data.root is None:
        raise ConfigError("data.root", "the folder of a data set", "nothing", "give it with --data DATASET")
    data = config.data.model_copy(update={"root": config.data.root.resolve()})
    model, source = config.model, config.model.backbone
    if isinstance(source, str) and Path(source).is_dir():
        model = model.model_copy(update={"backbone": str(Path(source).resolve())})
    return completed(config.model_copy(update={"data": data, "model": model}))


def _claim(out: Path, config: RunConfig, resume: bool) -> None:
    """Check that the folder may be used, and write down what the run is."""
    if resume and not has_checkpoint(out):
        raise ConfigError(out, "a run with checkpoints/last.ckpt", "none", "start it without --resume")
    if not resume and (has_checkpoint(out) or (out / "model").is_dir()):
        raise ConfigError(out, "an empty or new folder", "a run is in it", "choose another --out, or continue it with --resume")
    if resume:
        if changed := changes(load_record(out), config):
            got = f"another {', '.join(changed)}"
            raise ConfigError(out, "the configuration the run began with", got, "resume with the same settings")
        mend(out)
    clear_unfinished(out)
    if resume:
        return
    write_text(out / RECORD, dump_config(config))
    write_text(out / "run.json", json.dumps(provenance(config.seed), indent=2) + "\n")


def _validation_stems(dataset: Dataset, config: RunConfig) -> tuple[str, ...] | None:
    """Return the validation images, or None where there is no split ``val`` or no masks."""
    split = config.data.val_split
    if not dataset.has_masks() or (split == "val" and split not in dataset.spec.splits):
        return None
    return evenly(dataset.stems(split), config.training.val_images)


def _validation_loader(dataset: Dataset, stems: tuple[str, ...], place: Callable[[], tuple[int, int]]) -> DataLoader[Any]:
    return DataLoader(_ValidationItems(dataset, stems), batch_size=None, sampler=EveryNth(len(stems), place), collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item


def _trainer(
    config: RunConfig, out: Path, loggers: list[Logger], validates: bool, keep: Callable[[Path], None], stop: StopAtStep
) -> pl.Trainer:
    devices, nodes = places(config.training)
    training = config.training
    every = min(training.val_every, training.max_steps)
    callbacks = [stop, *checkpoint_callbacks(out / "checkpoints", every, validates)]
    if training.snapshots:
        place = out / SNAPSHOTS
        callbacks.append(Snapshots(lambda step: keep(place / f"{step:06d}"), training.snapshots, training.max_steps))
    if training.progress_bar:
        callbacks.append(ProgressBar(refresh_rate=5 if sys.stderr.isatty() else max(1, training.max_steps // 10)))
    return pl.Trainer(
        max_steps=training.max_steps,
        max_epochs=-1,
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy=strategy(training.strategy, devices * nodes),
        use_distributed_sampler=False,
        sync_batchnorm=devices * nodes > 1 and torch.cuda.is_available(),
        precision=_precision(training.precision),
        gradient_clip_val=training.grad_clip,
        val_check_interval=every if validates else None,
        check_val_every_n_epoch=None if validates else 1,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, training.max_steps),
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=training.progress_bar,
        enable_model_summary=False,
        default_root_dir=out,
    )


def _precision(wanted: str) -> str:
    """Return Lightning's name; ``auto`` is bf16 where the device computes in it, not merely emulates it."""
    if wanted == "auto":
        wanted = "bf16" if has_bf16() else "32"
    return "bf16-mixed" if wanted == "bf16" else "32-true"


def _extra_loggers(out: Path) -> list[Logger]:
    """Return TensorBoard's logger where that is installed."""
    with contextlib.suppress(ModuleNotFoundError):
        return [TensorBoardLogger(str(out), name="", version="tensorboard")]
    return []


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes about hardware, workers and its other products; ours are printed by the command line."""
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*FSDP2-wrapped module .* returned a view.*")  # nobody writes into it
            warnings.filterwarnings("ignore", message=".*It is recommended to use `self.log.*sync_dist.*")  # summed already
            warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
