"""A project: what is known of a folder, and the files that a training reads of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scribbleseg.annotate.files import Files
from scribbleseg.annotate.store import ImageRow, StaleError, Store
from scribbleseg.data.folder import Dataset, open_dataset

__all__ = ["ImageRow", "Project", "StaleError"]


class Project(Store):
    """An opened folder. Methods may be called from any thread.

    Attributes:
        files: writes what a training reads.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
        super().__init__(root, say)
        self.files = Files(self)
        self.files.start()

    def dataset(self) -> Dataset:
        """Return the data set as ``train`` opens it, after everything that was drawn is in its files."""
        self.files.flush()
        return open_dataset(self.root)

    def close(self) -> None:
        """Write what is not in its files yet, and close."""
        try:
            self.files.close()
        finally:
            self.log.close()
