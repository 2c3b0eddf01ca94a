"""Samples in a reproducible order, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset as TorchDataset, Sampler, default_collate, get_worker_info

from scribbleseg.config import DataConfig, RunConfig
from scribbleseg.data.folder import Dataset
from scribbleseg.data.kept import KeptSamples
from scribbleseg.data.large import is_large, large_view
from scribbleseg.data.sample import drawn_classes, make_sample
from scribbleseg.data.transforms import resize_longest, training_transforms
from scribbleseg.data.workers import Desk, WatchedLoader, begin_worker
from scribbleseg.errors import ScribblesegError
from scribbleseg.records import UNLABELLED, Batch, Sample


def load_sample(dataset: Dataset, stem: str, labels: str | None) -> Sample:
    """Read one image and, if asked, its ``scribbles`` or ``masks``."""
    picture = dataset.rgb(stem)
    size = (picture.shape[0], picture.shape[1])
    known = np.full(size, UNLABELLED, np.uint8) if labels is None else dataset.labels(stem, labels, size)
    return make_sample(stem, picture, known, drawn_classes(known))


def collate(items: Sequence[Sample | ScribblesegError]) -> Batch | ScribblesegError:
    """Stack samples of one size, in a worker process right into the memory that is shared with the training process.

    An error among them takes the batch's place: torch would lose what it says.
    """
    failed = next((item for item in items if isinstance(item, ScribblesegError)), None)
    if failed is not None:
        return failed
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch(
        stems=tuple(s.stem for s in samples),
        image=default_collate([s.image for s in samples]),
        rgb=default_collate([s.rgb for s in samples]),
        labels=default_collate([s.labels for s in samples]),
        drawn=default_collate([s.drawn for s in samples]),
        valid=default_collate([s.valid for s in samples]),
    )


class TrainingSamples(TorchDataset[Sample | ScribblesegError]):
    """Item n of the run: which image it is and how it is varied depend on (seed, n) alone.

    So the order is the same with any number of workers, and a resumed run meets the items it would have met.
    """

    def __init__(self, dataset: Dataset, config: RunConfig) -> None:
        self.dataset, self.stems = dataset, training_stems(dataset, config.data)
        self.config, self.seed = config.data, config.seed
        self.large: dict[str, bool] = {}
        self.kept = KeptSamples(config.data.cache_mib * 2**20 // max(1, config.data.num_workers))
        self.desk = Desk(config.data.num_workers)
        self.view, self.jitter = training_transforms(config.data)

    def __getitem__(self, n: int) -> Sample | ScribblesegError:
        """Return the item; in a worker process an error of ours is returned, for :func:`collate` to hand on."""
        try:
            return self.item(n)
        except ScribblesegError as error:
            if get_worker_info() is None:
                raise
            return error
        finally:
            self.desk.note(-1)

    def item(self, n: int) -> Sample:
        """Read and vary the item."""
        epoch, position = divmod(n, len(self.stems))
        order = epoch_order(self.seed, epoch, len(self.stems))
        index, generator = int(order[position]), generator_for(self.seed, 2, n)
        stem = self.stems[index]
        self.desk.note(index)
        if stem not in self.large:
            self.large[stem] = is_large(self.dataset, stem, self.config)
        if self.large[stem]:
            return self.jitter(large_view(self.dataset, stem, self.config, generator), generator)
        sample = self.kept.get(stem, lambda: self.whole(stem))
        return self.jitter(self.view(sample, generator), generator)

    def whole(self, stem: str) -> Sample:
        """Read an image, and shrink or grow it."""
        return resize_longest(load_sample(self.dataset, stem, self.config.labels), self.config.longest_px)


@lru_cache(maxsize=2)  # a batch may reach into the next epoch
def epoch_order(seed: int, epoch: int, number: int) -> torch.Tensor:
    """Return the order in which an epoch shows its images."""
    return torch.randperm(number, generator=generator_for(seed, 1, epoch))


def generator_for(seed: int, *key: int) -> torch.Generator:
    """Return a generator whose stream depends on the seed and the key alone."""
    state = int(np.random.SeedSequence([seed & 0xFFFFFFFF, *key]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state & 0x7FFFFFFFFFFFFFFF)


class _Batches(Sampler[list[int]]):
    """The items of each step from where the run stands to its end; of several ranks, those of this one.

    Args:
        first: asked for the first step when iteration begins.
        end: number of steps.
        size: images a step, over all ranks.
        place: asked for this rank and the number of ranks when iteration begins.
    """

    def __init__(self, first: Callable[[], int], end: int, size: int, place: Callable[[], tuple[int, int]]) -> None:
        self.first, self.end, self.size, self.place = first, end, size, place

    def __iter__(self) -> Iterator[list[int]]:
        low, high = rows_of(self.size, *self.place())
        return (list(range(step * self.size + low, step * self.size + high)) for step in range(self.first(), self.end))


class EveryNth(Sampler["int | None"]):
    """Of some items those of this rank: every n-th, or None once where there are fewer items than ranks.

    Args:
        length: number of items.
        place: asked for this rank and the number of ranks when iteration begins.
    """

    def __init__(self, length: int, place: Callable[[], tuple[int, int]]) -> None:
        self.length, self.place = length, place

    def __len__(self) -> int:
        rank, number = self.place()
        return max(1, len(range(rank, self.length, number)))

    def __iter__(self) -> Iterator[int | None]:
        rank, number = self.place()
        mine: list[int | None] = list(range(rank, self.length, number))
        return iter(mine or [None])


def rows_of(size: int, rank: int, number: int) -> tuple[int, int]:
    """Return which of ``size`` rows a rank has, from and up to: as even as can be, the first ranks have one more."""
    each, more = divmod(size, number)
    low = rank * each + min(rank, more)
    return low, low + each + (rank < more)


def alone() -> tuple[int, int]:
    """Return the place of a process that is the only one: rank 0 of 1."""
    return 0, 1


def training_loader(
    dataset: Dataset, config: RunConfig, steps_done: Callable[[], int], place: Callable[[], tuple[int, int]] = alone
) -> DataLoader[Sample | ScribblesegError]:
    """Return the batches of a run from the step it has reached.

    Args:
        steps_done: asked when iteration begins.
        place: asked for this rank and the number of ranks then.
    """
    return WatchedLoader(
        TrainingSamples(dataset, config),
        batch_sampler=_Batches(steps_done, config.training.max_steps, config.training.batch_size, place),
        collate_fn=collate,
        num_workers=config.data.num_workers,
        worker_init_fn=begin_worker,
        persistent_workers=False,
        patience_s=config.data.timeout_s,
    )


def training_stems(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """Return the images that a run learns from."""
    return evenly(dataset.stems(config.train_split), config.train_images)


def evenly(stems: Sequence[str], number: int) -> tuple[str, ...]:
    """Return ``number`` stems spread evenly over the list; all of them for 0."""
    if number == 0 or number >= len(stems):
        return tuple(stems)
    return tuple(stems[i * len(stems) // number] for i in range(number))
