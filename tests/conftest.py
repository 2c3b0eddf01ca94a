"""Shared fixtures. Nothing of the package is imported at the top: the shape checks are installed after this file is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.fake.datasets import make_dataset

torch.set_num_threads(1)
if not torch.cuda.is_available():  # read when Triton is first imported, by whichever test that is
    os.environ.setdefault("TRITON_INTERPRET", "1")
else:  # read when cuBLAS begins: matrix products are deterministic with this alone
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture
def dataset_root(tmp_path: Path) -> Path:
    """A data set of four small images with scribbles and masks."""
    return make_dataset(tmp_path / "data")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator, so that every run of a test sees the same numbers."""
    return torch.Generator().manual_seed(1234)
