"""Ray itself: reaching or beginning a cluster, how many workers fit, and its errors in our words."""

from __future__ import annotations

import contextlib
import logging
import socket
import warnings
from collections.abc import Iterator
from typing import Any

from scribbleseg.environment import keep_ray_quiet
from scribbleseg.errors import ClusterError, ConfigError, ScribblesegError
from scribbleseg.extras import library

WHERE = "--engine ray"


@contextlib.contextmanager
def connected(address: str | None, started: dict[str, Any]) -> Iterator[Any]:
    """Yield Ray, connected to a cluster: the one at an address, one that this process has already, or a new one here.

    Raises:
        ClusterError: there is none at the address.
        ConfigError: Ray is not installed.
    """
    keep_ray_quiet()
    ray: Any = library("ray", WHERE, "which spreads work over machines", "ray")
    library("ray.data", WHERE, "which streams inputs to workers", "ray")
    own = not ray.is_initialized()
    if own:
        if address is not None and address.rpartition(":")[2].isdigit():
            _require_listener(address)  # Ray itself tries for many minutes
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # that there is a token
        how = {"address": address} if address is not None else {"address": "local", "include_dashboard": False, **started}
        try:
            ray.init(logging_level=logging.WARNING, **how)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            got = " ".join(str(error).split())[:300]
            raise ClusterError(address or "Ray on this machine", "a Ray cluster", got, "start one: ray start --head") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="ray.data")  # that there are fewer blocks left than workers
            yield ray
    finally:
        if own:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise ``ClusterError`` where nothing listens at HOST:PORT."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return
    except OSError as error:
        got = error.strerror or str(error)
        do = "check the address, which `ray start --head` says, and that it runs"
        raise ClusterError(address, "a Ray cluster", got, do) from None


def num_workers(ray: Any, asked: int, cpus: float, device: str) -> tuple[int, float]:
    """Return how many workers there are to be, and GPUs of each: all are of one kind, so that their numbers are.

    Raises:
        ConfigError: the cluster has not as much.
    """
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0)) if device == "auto" or device.startswith("cuda") else 0
    if device.startswith("cuda") and not gpus:
        raise ConfigError(
            "--device", "a cluster with GPUs", "none", "give --device cpu or auto, or add a machine that has some"
        )
    fit = min(gpus or 10**9, int(there.get("CPU", 0) / cpus))
    if fit < max(1, asked):
        got = f"room for {fit}: {int(there.get('CPU', 0))} cores, {gpus} GPUs"
        raise ConfigError(
            "--workers", f"a cluster with room for {max(1, asked)} of {cpus:g} cores", got, "ask for fewer, or add machines"
        )
    return asked or fit, 1.0 if gpus else 0.0


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """Turn what Ray raises into our error: that the cluster is lost, or a worker stumbled over something unforeseen."""
    try:
        yield
    except ScribblesegError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "ray":
            raise
        got = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
        do = "see Ray's logs; run the same again to go on where it was"
        raise ClusterError("Ray", "a cluster that carries the run to its end", got, do) from error
