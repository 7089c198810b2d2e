"""How much one client, and all of them together, may take of a server."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """The bounds of a server; sizes in bytes, times in seconds."""

    request_bytes: int = 8 * MIB
    """Of the body of one request."""
    texts: int = 4096
    """In one request."""
    characters: int = 100_000
    """Of one text."""
    images: int = 256
    """In one request."""
    pixels: int = 16 * MIB
    """Of all images of one request, as their headers say; each counts as a byte of what is held."""
    numbers: int = MIB
    """Of all series of one request."""
    answer_bytes: int = 32 * MIB
    """Of one answer: models with many classes take fewer texts a request."""

    waiting_texts: int = 16_384
    """That wait for the model, of all requests."""
    held_bytes: int = 64 * MIB
    """Of all bodies that are read, that wait, or whose answers are being sent."""
    small_texts: int = 16
    small_bytes: int = 64 * 1024
    """Requests up to these sizes are taken until half as much again waits: large ones cannot keep them out."""

    batch_rows: int = 256
    batch_bytes: int = MIB
    batch_target: float = 0.03
    """Seconds that batches take at most, as far as their bytes tell, where they have more than `least_batch`."""
    least_batch: int = 8 * 1024
    batch_wait: float = 0.005
    """For other requests, where the model is idle."""

    connections: int = 512
    header_bytes: int = 16 * 1024
    receive_seconds: float = 10
    """For a whole request, headers and body."""
    send_seconds: float = 10
    """For a client to take its answer."""
    idle_seconds: int = 5
    """Between two requests on one connection."""
    answer_seconds: float = 30
    """From the end of a request to its answer."""
    batch_seconds: float = 60
    """After which a batch counts as stuck, and another thread takes its place."""
    stuck_threads: int = 2
    """That may be replaced so."""
    shutdown_seconds: float = 4
    """For requests that wait when the server is told to end."""

    def most_texts(self, small: bool) -> int:
        """Texts that may wait where a request of this kind comes."""
        return self.waiting_texts * 3 // 2 if small else self.waiting_texts

    def most_held(self, small: bool) -> int:
        """Bytes that may be held where a request of this kind comes."""
        return self.held_bytes * 3 // 2 if small else self.held_bytes
