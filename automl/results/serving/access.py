"""Who may ask a server: its own names, no pages of other sites, and who knows the token."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from automl.results.hosts import LOOPBACK, host_name, is_unspecified, normal_host
from automl.space import UserError

SAFE_METHODS = ("GET", "HEAD")
OPEN_PATHS = ("/health",)  # a supervisor that asks whether the server lives knows no token


class RefusedError(Exception):
    """A request that is answered with an error: HTTP status, one sentence, and headers."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


@dataclass(frozen=True)
class Access:
    """The names that a server answers to, and the token that it wants to see."""

    hosts: frozenset[str] = frozenset(LOOPBACK)
    own_address: bool = False
    """It answers, too, to the address that a client has reached it by (where it listens on all)."""
    token: str | None = None

    def check(self, scope: Scope) -> None:
        """Raise RefusedError where the headers of a request say that it is not to be answered."""
        headers = Headers(scope=scope)
        self._check_host(scope, headers)
        _check_framing(headers)
        if scope["method"] not in SAFE_METHODS:
            _check_origin(headers)
        if self.token is not None and scope["path"] not in OPEN_PATHS:
            kind, _, said = headers.get("authorization", "").partition(" ")
            # Compared as bytes in constant time: how long it takes tells nothing of the token.
            if kind.lower() != "bearer" or not hmac.compare_digest(said.strip().encode(), self.token.encode()):
                raise RefusedError(
                    401, "this server wants a token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"}
                )

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        given = headers.getlist("host")
        name = host_name(given[0]) if len(given) == 1 else None
        if name is None:
            raise RefusedError(400, "a request names its host in one header Host")
        own = scope.get("server")
        if name not in self.hosts and not (self.own_address and own and name == normal_host(own[0])):
            raise RefusedError(
                421, "this server does not answer to that Host; `automl serve --allow-host NAME` adds one"
            )


def access(host: str, allowed: Iterable[str] = (), token: str | None = None) -> Access:
    """Who may ask a server that listens on `host`: loopback names, `host` and those `allowed`.

    Raises UserError where a name or the token cannot be one.
    """
    for name in allowed:
        if host_name(name) is None or not name.strip():
            raise UserError(f"--allow-host {name!r} is no host name; write it without http:// and path")
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise UserError("the token has to be printable ASCII without blanks, and not empty")
    everywhere = is_unspecified(host)
    names = {normal_host(name) for name in (*LOOPBACK, *((host,) if not everywhere else ()))}
    return Access(frozenset(names | {host_name(name) or "" for name in allowed}), everywhere, token)


def _check_origin(headers: Headers) -> None:
    """Browsers say where a page comes from that posts; programs say nothing."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{headers['host']}".lower():
        raise RefusedError(403, "pages of other sites may not ask this server")
    if headers.get("sec-fetch-site", "none").lower() not in ("none", "same-origin"):
        raise RefusedError(403, "pages of other sites may not ask this server")


def _check_framing(headers: Headers) -> None:
    """Two lengths of one body are read differently by proxies: request smuggling (RFC 9112, 6.1)."""
    if "transfer-encoding" in headers and "content-length" in headers:
        raise RefusedError(400, "a request has Content-Length or Transfer-Encoding, not both")


def check_content(headers: Headers) -> None:
    """Raise RefusedError (415) where a body is not JSON as it is: other types are what forms of any page can send."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if len(headers.getlist("content-type")) != 1 or kind.strip().lower() != "application/json":
        raise RefusedError(415, "the body has to be sent as Content-Type: application/json")
    if charset not in ("", "charset=utf-8"):
        raise RefusedError(415, "JSON is sent in UTF-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "the body has to be sent uncompressed")
