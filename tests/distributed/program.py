"""A run as a program, for tests that kill it: ``python -m tests.distributed.program MODEL INPUT OUT [CLUSTER]``."""

from __future__ import annotations

import sys

from scribbleseg.distributed import Resources, predict_many


def main() -> None:
    """Run to the end, and say how far it is at every block."""
    model, inputs, out, *cluster = sys.argv[1:]
    started = {} if cluster else {"num_cpus": 2, "object_store_memory": 2**27}
    resources = Resources(*cluster, workers=2, block=4, started=started)
    for now in predict_many(model, inputs, out, outputs=["mask"], device="cpu", resources=resources):
        print(now.done, now.kept, now.failed, now.worker, flush=True)


if __name__ == "__main__":
    main()
