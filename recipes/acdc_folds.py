"""Lists for the five folds of WSL4MIS beside the staged ACDC slices: ``python -m recipes.acdc_folds DATA/acdc-scribble OUT``.

Fold k tests on patients 20(k−1)+1 to 20k, which is one of ACDC's five diagnoses; of the others, every eighth is set aside to
choose settings on (``val``) and the rest is trained on. Images and labels stay where they are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from recipes.lists import write_lists
from scribbleseg.data.folder import open_dataset


def write_folds(source: Path, out: Path) -> None:
    """Write ``out/fold1`` to ``out/fold5``, each a data set whose folders are those of ``source``."""
    dataset = open_dataset(source)
    stems = sorted({stem for split in dataset.spec.splits for stem in dataset.stems(split)})
    patients = {stem: int(re.match(r"patient(\d+)_", stem).group(1)) for stem in stems}  # type: ignore[union-attr]
    for fold in range(1, 6):
        tested = set(range(20 * (fold - 1) + 1, 20 * fold + 1))
        others = sorted(set(patients.values()) - tested)
        looked_at = set(others[::8])
        chosen = {"train": set(others) - looked_at, "val": looked_at, "test": tested}
        lists = {split: [stem for stem in stems if patients[stem] in some] for split, some in chosen.items()}
        write_lists(dataset, out / f"fold{fold}", f"acdc-scribble, fold {fold}", lists)


if __name__ == "__main__":
    write_folds(Path(sys.argv[1]), Path(sys.argv[2]))
