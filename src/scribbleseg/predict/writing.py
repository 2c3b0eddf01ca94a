"""The side of a run that writes: the bands of an input to all its outputs, in a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from scribbleseg.predict.bands import Band
from scribbleseg.predict.channel import Channel, GivenUp
from scribbleseg.predict.manifest import Manifest
from scribbleseg.predict.outputs.output import Job
from scribbleseg.predict.reading import Task

#: Files of an input by the output's name.
Written = dict[str, list[Path]]


class Writer:
    """Takes the bands of one input; the thread behind it writes them, and then a line into the manifest."""

    def __init__(self, pool: ThreadPoolExecutor, manifest: Manifest, task: Task, job: Job) -> None:
        self._channel: Channel[Band] = Channel(1)
        self.written: Future[Written] = pool.submit(_write, self._channel, manifest, task, job)

    def feed(self, bands: Iterable[Band]) -> None:
        """Hand over all bands of the input. What goes wrong in reading or predicting them becomes the result's error."""
        try:
            for band in bands:
                self._channel.put(band)
        except GivenUp:  # writing has failed, which the result says
            return
        except BaseException as error:
            self._channel.close(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._channel.close()


def _write(channel: Channel[Band], manifest: Manifest, task: Task, job: Job) -> Written:
    try:
        with contextlib.ExitStack() as stack:
            sinks = [stack.enter_context(output.open(job)) for output in task.outputs.values()]
            for band in channel:
                for sink in sinks:
                    sink(band)
        files = {name: output.files(job) for name, output in task.outputs.items()}
        manifest.add(task.path, task.state, files)
    except BaseException:
        channel.give_up()
        raise
    return files
