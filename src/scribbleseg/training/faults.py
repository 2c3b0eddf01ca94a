"""What can end a training from outside, in our own words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch.utilities.exceptions import SIGTERMException

from scribbleseg.atomic import CANNOT_WRITE, storage_error
from scribbleseg.errors import InterruptedRunError, StoppedError, StorageError, TrainingError
from scribbleseg.stopping import TOLD
from scribbleseg.training.stopping import StopAtStep


@contextlib.contextmanager
def in_our_words(out: Path, stop: StopAtStep) -> Iterator[None]:
    """Turn what ends a run into the error that its user can act on.

    Raises:
        KeyboardInterrupt: a second Ctrl-C, of which Lightning makes an exit.
        StoppedError: SIGTERM; or Ctrl-C, an :class:`InterruptedRunError`.
        StorageError: the disk is full or cannot be written, or the run folder is gone.
        TrainingError: a process that loads data was killed.
    """
    again = f"scribbleseg train --out {out} --resume"
    try:
        yield
    except SIGTERMException:
        kept = "in a validation, which it does again" if stop.saved is None else f"after step {stop.saved}, which is kept"
        kind, signal = (InterruptedRunError, "Ctrl-C") if stop.request.interrupted else (StoppedError, "SIGTERM")
        raise kind(out, TOLD, f"{signal} {kept}", again) from None
    except SystemExit:
        raise KeyboardInterrupt from None
    except OSError as error:
        if not out.is_dir():
            raise StorageError(out, "the run folder", "it is gone", "bring it or its disk back, then --resume") from None
        if error.errno not in CANNOT_WRITE:
            raise
        raise storage_error(error, out) from None
    except RuntimeError as error:
        if "DataLoader worker" in str(error) and "killed by signal" in str(error):  # told between two batches
            do = f"if memory ran out, lower data.num_workers; then {again}"
            raise TrainingError(out, "processes that load data until the end", str(error).splitlines()[0], do) from None
        raise
