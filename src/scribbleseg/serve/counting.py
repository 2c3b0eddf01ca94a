"""What Prometheus is told: one registry a server, none of the process's own."""

from __future__ import annotations

from typing import Any

from scribbleseg.extras import library
from scribbleseg.serve.admission import Admission

#: Upper ends, in seconds, of the bins in which answers are counted.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

#: The same of windows that went through the network together.
WINDOWS = (1, 2, 4, 8, 16, 32, 64)


class Counts:
    """The server's own numbers, by the names that ``docs/reference/serve-api.md`` lists."""

    def __init__(self, admission: Admission) -> None:
        prometheus: Any = library("prometheus_client", "serve", "which counts requests", "serve")
        self._registry = prometheus.CollectorRegistry()
        self._latest = prometheus.generate_latest
        self.media_type: str = prometheus.CONTENT_TYPE_LATEST
        self._requests = prometheus.Counter(
            "scribbleseg_requests", "Answers, by address and status.", ["route", "code"], registry=self._registry
        )
        self._seconds = prometheus.Histogram(
            "scribbleseg_request_seconds",
            "From a request to its answer, by address.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._windows = prometheus.Histogram(
            "scribbleseg_batch_windows",
            "Windows that went through the network together.",
            buckets=WINDOWS,
            registry=self._registry,
        )
        self._model_s = prometheus.Counter(
            "scribbleseg_model_seconds", "Time that the network was at work.", registry=self._registry
        )
        self._pixels = prometheus.Counter("scribbleseg_pixels", "Pixels that were predicted.", registry=self._registry)
        for name, words, value in (
            ("scribbleseg_requests_in_hand", "Requests that are read, wait or are worked on.", lambda: admission.requests),
            ("scribbleseg_pixels_in_hand", "Pixels of their pictures.", lambda: admission.pixels),
            ("scribbleseg_bytes_in_hand", "Bytes of their bodies.", lambda: admission.bytes),
        ):
            prometheus.Gauge(name, words, registry=self._registry).set_function(value)
        prometheus.ProcessCollector(registry=self._registry)

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, code).inc()
        self._seconds.labels(route).observe(seconds)

    def ran(self, windows: int, seconds: float) -> None:
        """Count a batch."""
        self._windows.observe(windows)
        self._model_s.inc(seconds)

    def predicted(self, pixels: int) -> None:
        """Count a picture."""
        self._pixels.inc(pixels)

    def text(self) -> bytes:
        """Return all of it in Prometheus's own form."""
        return bytes(self._latest(self._registry))
