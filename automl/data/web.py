"""Files of web servers, read by GET: from the host that the URL names and no other, in bounded time.

A redirect is followed on the same host and port only, or from http to https there. `automl.data.addresses` says which
hosts are never asked.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from automl.data.addresses import connect, require_allowed_host
from automl.data.bounds import DOWNLOAD_SECONDS
from automl.data.names import leads_out, leads_out_error
from automl.space import UserError
from automl.space.urls import redacted, redacted_text

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0  # for each connection, for each answer to a read
REDIRECTS = 5
PORTS = {"http": 80, "https": 443}
FOLLOWED = (301, 302, 303, 307, 308)
GONE, LATER = (404, 410), (408, 425, 429)


@dataclass(frozen=True)
class WebState:
    """What a server says of a file: its bytes and its time, where it does."""

    size: int | None
    modified: datetime | None


class WebFile(io.RawIOBase):
    """The content of a file, read once from its start; raises OSError where it ends early, UserError after its time."""

    def __init__(self, url: str, method: str = "GET") -> None:
        super().__init__()
        self.url, self._read_bytes, self.expired = url, 0, False
        self._connection: _Http | _Https | None = None
        self._response: http.client.HTTPResponse | None = None
        seconds = DOWNLOAD_SECONDS.value()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()
        try:
            self._asked(url, method)
        except BaseException:
            self.close()
            raise

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the next answer reaches; 0 at the end."""
        with _as_os_errors(self):
            count = self._answer().readinto(buffer)
        self._read_bytes += count
        size = self.state().size
        if self.expired:
            raise DOWNLOAD_SECONDS.exceeded(f"{redacted(self.url)} takes", "seconds")
        if not count and len(buffer) and size is not None and self._read_bytes < size:
            raise OSError(f"{redacted(self.url)} ended early")
        return count

    def state(self) -> WebState:
        """What the server says of it."""
        size, modified = self._answer().headers.get("Content-Length", ""), None
        with suppress(ValueError, TypeError, IndexError, OverflowError):
            modified = parsedate_to_datetime(self._answer().headers.get("Last-Modified", ""))
        chunked = "Transfer-Encoding" in self._answer().headers
        known = size.isascii() and size.isdigit() and len(size) < 19 and not chunked
        return WebState(int(size) if known else None, modified)

    def kind(self) -> str:
        """Its media type."""
        return str(self._answer().headers.get_content_type())

    def close(self) -> None:
        """End the connection, whatever is still to come."""
        self._timer.cancel()
        self._disconnect()
        super().close()

    def _asked(self, url: str, method: str) -> None:
        for _ in range(REDIRECTS + 1):
            place = checked_url(url)
            with _as_os_errors(self):
                self._connection = _connection(place)
                target = quote(place.path or "/", safe="/%:@!$&'()*+,;=~")
                query = f"?{quote(place.query, safe='/%:@!$&()*+,;=~?')}" if place.query else ""
                self._connection.request(
                    method, target + query, headers={"User-Agent": "automl", "Accept-Encoding": "identity"}
                )
                response = self._response = self._connection.getresponse()
            location = response.headers.get("Location")
            if response.status not in FOLLOWED or not location:
                return self._require_success(response.status)
            self._disconnect()
            url = _followed(url, location)
        raise UserError(f"{redacted(self.url)} redirects more than {REDIRECTS} times")

    def _answer(self) -> http.client.HTTPResponse:
        assert self._response is not None
        return self._response

    def _require_success(self, status: int) -> None:
        if 200 <= status < 300:
            return
        if status in GONE:
            raise FileNotFoundError(f"there is no file at {redacted(self.url)}")
        if status >= 500 or status in LATER:
            raise OSError(f"the server of {redacted(self.url)} answers {status}")
        raise RefusedError(f"the server of {redacted(self.url)} answers {status}: the file cannot be read")

    def _expire(self) -> None:
        self.expired = True
        if self._connection is not None and (used := self._connection.used) is not None:
            with suppress(OSError):  # a reader in another thread wakes up with nothing
                socket.socket.shutdown(used, socket.SHUT_RDWR)

    def _disconnect(self) -> None:
        for each in (self._connection, self._response):
            if each is not None:
                with suppress(OSError):
                    each.close()


class RefusedError(UserError):
    """A server that answers, but not with the file."""


def checked_url(url: str) -> SplitResult:
    """The parts of a URL of a web server; raises UserError for one that is never asked."""
    if any(ord(character) < 32 or ord(character) == 127 for character in url):  # urlsplit leaves some of them out
        raise UserError(f"{redacted(url)!r} has a control character, which no URL may have")
    try:
        place = urlsplit(url)
        port = place.port
    except ValueError as error:
        raise UserError(f"{redacted(url)} is no URL: {error}") from error
    if place.scheme not in PORTS or not place.hostname or port == 0:
        raise UserError(f"{redacted(url)} is no URL of a web server")
    if "@" in place.netloc:
        raise UserError(f"{redacted(url)} holds credentials, which would be written down with the run")
    inside = place.path.removeprefix("/").removesuffix("/")
    if (inside and leads_out(inside)) or leads_out(place.query.replace("/", "") or "query"):
        raise leads_out_error(url)
    require_allowed_host(place.hostname)
    return place


def web_state(url: str) -> WebState:
    """What a server says of a file, by HEAD, or by a GET whose content is not read."""
    try:
        with WebFile(url, "HEAD") as head:
            state = head.state()
            if state.size is not None:
                return state
    except RefusedError:  # signed URLs are for one method
        pass
    with WebFile(url) as file:
        return file.state()


def _connection(place: SplitResult) -> _Http | _Https:
    port = place.port or PORTS[place.scheme]
    return (_Https if place.scheme == "https" else _Http)(str(place.hostname), port, timeout=READ_SECONDS)


class _Http(http.client.HTTPConnection):
    used: socket.socket | None = None  # `sock` is none as soon as an answer is read to its end

    def connect(self) -> None:
        self.used = self.sock = connect(self.host, self.port, CONNECT_SECONDS)
        self.sock.settimeout(READ_SECONDS)


class _Https(http.client.HTTPSConnection):
    used: socket.socket | None = None

    def connect(self) -> None:
        context = ssl.create_default_context()
        plain = connect(self.host, self.port, CONNECT_SECONDS)
        self.used = self.sock = context.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock.settimeout(READ_SECONDS)
        self.sock.do_handshake()


def _followed(url: str, location: str) -> str:
    """Where a redirect leads; raises UserError where that is another host, or from https to http."""
    try:
        there = urljoin(url, location)
    except ValueError as error:
        raise UserError(f"{redacted(url)} redirects to something that is not a URL") from error
    old, new = checked_url(url), checked_url(there)
    ends = [(str(each.hostname).lower(), each.port or PORTS[each.scheme]) for each in (old, new)]
    same = old.scheme == new.scheme and ends[0] == ends[1]
    safer = old.scheme == "http" and new.scheme == "https" and ends == [(ends[0][0], 80), (ends[0][0], 443)]
    if not same and not safer:
        raise UserError(
            f"{redacted(url)} redirects to {redacted(there)}, which is not the same host; name that URL if you trust it"
        )
    return there


@contextmanager
def _as_os_errors(file: WebFile) -> Iterator[None]:
    """What http.client raises for answers that are none is an OSError; all is a UserError after the file's time."""
    try:
        yield
    except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
        if file.expired:
            raise DOWNLOAD_SECONDS.exceeded(f"{redacted(file.url)} takes", "seconds") from error
        said = f"{redacted(file.url)}: {redacted_text(str(error)) or type(error).__name__}"
        if isinstance(error, ssl.SSLCertVerificationError | UnicodeError):
            raise UserError(said) from error
        if isinstance(error, AttributeError):
            raise
        raise OSError(said) from error
