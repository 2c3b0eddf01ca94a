"""The side of a run that reads: every input in a thread, a few inputs ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scribbleseg.data.images import open_image
from scribbleseg.data.intensity import Ranges
from scribbleseg.models.folder import TrainedModel
from scribbleseg.predict.bands import LARGE_PIXELS, Piece, pieces, refuse_to_refine
from scribbleseg.predict.channel import Channel, GivenUp
from scribbleseg.predict.outputs.output import Job, Output

#: A picture of more pixels is read and predicted band by band, if it is not to be refined.
BAND_PIXELS = 2**22

#: Inputs that are read before the network has come to them.
AHEAD = 4


@dataclass(frozen=True)
class Task:
    """An input, and what of it is to be done.

    Attributes:
        path: of it.
        outputs: that are to be written, by name; none where all is done.
        state: of its file, see :func:`~scribbleseg.predict.manifest.state_of`.
        beside: whether it is read even if all is done, because one that it shared a batch with is not.
        ends: whether it is the last that can share a batch with those before it.
    """

    path: Path
    outputs: dict[str, Output]
    state: list[int]
    beside: bool = False
    ends: bool = False


#: What comes of an input: first what it is, then its pieces.
Read = Channel[Job | Piece]


def read_ahead(
    pool: ThreadPoolExecutor, tasks: Iterable[Task], model: TrainedModel, out: Path, *, refine: bool
) -> Generator[tuple[Task, Read]]:
    """Yield every input with the channel that it comes through, while the next ones are being read."""
    waiting: deque[tuple[Task, Read]] = deque()
    coming = iter(tasks)
    try:
        while True:
            while len(waiting) < AHEAD and (task := next(coming, None)) is not None:
                channel: Read = Channel(1)
                pool.submit(_read, task, model, out, refine, channel)
                waiting.append((task, channel))
            if not waiting:
                return
            task, channel = waiting.popleft()
            try:
                yield task, channel
            finally:
                channel.give_up()
    finally:
        for _, channel in waiting:
            channel.give_up()


def _read(task: Task, model: TrainedModel, out: Path, refine: bool, channel: Read) -> None:
    if not task.outputs and not task.beside:
        channel.close()
        return
    try:
        with open_image(task.path, model.reading) as image:
            if refine:
                refuse_to_refine(model, image)
            height, width, _ = image.shape
            about = (image.num_slices, image.spacing_mm, image.slice_mm)
            channel.put(Job(out, task.path, (height, width), model.names, *about))
            ranges: Ranges = {}
            for number in range(image.num_slices):
                for piece in pieces(model, image, number, ranges, LARGE_PIXELS if refine else BAND_PIXELS):
                    channel.put(piece)
        channel.close()
    except GivenUp:
        return
    except BaseException as error:
        channel.close(error)
