"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and gauges of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "automl_requests", "Requests answered, by path and HTTP status.", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "automl_request_seconds",
            "Seconds from the headers of a request to the end of its answer, by path.",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.hung_up = Counter(
            "automl_requests_abandoned", "Requests whose client left before the answer.", registry=self.registry
        )
        self.closed = Counter(
            "automl_connections_closed",
            "Connections closed by the server, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.connections = Gauge("automl_connections", "Connections that are open.", registry=self.registry)
        self.waiting_texts = Gauge("automl_queue_texts", "Texts that wait or are computed.", registry=self.registry)
        self.held_bytes = Gauge(
            "automl_queue_bytes", "Bytes of requests that are read, wait or are answered.", registry=self.registry
        )
        self.batches = Counter("automl_batches", "Batches that the model computed.", registry=self.registry)
        self.failed_batches = Counter("automl_batches_failed", "Batches that failed.", registry=self.registry)
        self.stuck_batches = Counter(
            "automl_batches_stuck", "Batches given up because they took too long.", registry=self.registry
        )
        self.batch_texts = Histogram("automl_batch_texts", "Texts a batch.", buckets=ROWS, registry=self.registry)
        self.batch_seconds = Histogram(
            "automl_batch_seconds", "Seconds a batch.", buckets=SECONDS, registry=self.registry
        )
