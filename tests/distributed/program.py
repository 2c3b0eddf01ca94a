"""A run as a program, for tests that kill it: ``python -m tests.distributed.program VERB MODEL INPUT OUT [CLUSTER]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from scribbleseg.distributed import Progress, Resources, evaluate_many, predict_many
from scribbleseg.scores import write_scores


def main() -> None:
    """Run to the end, and say how far it is at every block."""
    verb, model, inputs, out, *cluster = sys.argv[1:]
    started = {} if cluster else {"num_cpus": 2, "object_store_memory": 2**27}
    how: dict[str, Any] = {"device": "cpu", "resources": Resources(*cluster, workers=2, block=4, started=started)}
    if verb == "evaluate":
        found = evaluate_many(model, inputs, out, progress=say, **how)
        write_scores(Path(out) / "scores.json", found.scores, source="model", data="data", split="test")
        return
    for now in predict_many(model, inputs, out, outputs=["mask"], **how):
        say(now)


def say(now: Progress) -> None:
    """Say how far it is."""
    print(now.done, now.kept, now.failed, now.worker, flush=True)


if __name__ == "__main__":
    main()
