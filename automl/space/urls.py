"""URLs as they may be shown: without passwords, tokens and signatures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Of a query only these values are shown: any other may be a key, whatever the store or the database calls it.
HARMLESS = frozenset(("charset", "region", "scheme", "sslmode", "versionid"))

LONGEST = 2048  # characters of a URL that are shown

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:[/\\]{2}")
_IN_TEXT = re.compile(rf"{_SCHEME.pattern}[^\s\"'<>`|]+")
# A password may hold slashes, question marks and hashes that nobody has escaped: it ends at the last @ of the URL.
_USER = re.compile(r"[^/\\?#@:]*:.*@|[^/\\?#]*@", re.DOTALL)
# Before a database's host a name without a password is one of a user, elsewhere it may be a token.
_DATABASE = re.compile(r"(?:postgresql|mysql|mariadb)(?:\+\w+)?://$")
_QUERY = re.compile(r"[?#]")
_SECRET = re.compile(
    r"((?:^|[?&;,\s\"'({])[\w.-]{0,40}(?:token|secret|passw|pwd|signature|credential|api_?key|access_?key|auth)[\w.-]{0,40}"
    r"|[?&;](?:sig|key|code|user))(=)[^&;\s\"'<>)}]+",
    re.IGNORECASE,
)


def redacted(url: str) -> str:
    """A URL whose user, password, fragment and query values are `***`; names and harmless values of a query stay.

    So does the user of a database where the URL has no password.

    Never raises, whatever the URL is; a text that is no URL comes back without what looks like `token=...`.
    """
    cut = url[LONGEST:]
    rest, shown = url[:LONGEST] + ("@" if "@" in cut else "") + ("..." if cut else ""), ""
    while (found := _SCHEME.search(rest)) is not None:  # chained URLs (`a::b://user:password@host`) have several
        shown, rest = shown + rest[: found.end()], rest[found.end() :]
        if (user := _USER.match(rest)) is not None:
            plain = ":" not in user[0] and _DATABASE.search(shown) is not None
            shown, rest = f"{shown}{user[0] if plain else f'{HIDDEN}@'}", rest[user.end() :]
        query, following = _QUERY.search(rest), _SCHEME.search(rest)
        if query is not None and (following is None or query.start() < following.start()):
            asked, hash_sign, _ = rest[query.start() :].partition("#")
            values = "&".join(map(_shown, re.split("[&;]", asked[1:])))
            return f"{shown}{rest[: query.start()]}{asked[:1]}{values}{hash_sign}{HIDDEN if hash_sign else ''}"
    return shown + (rest if shown else _without_secrets(rest))


def redacted_text(text: str) -> str:
    """A message, such as another library's error, with every URL in it redacted and every `token=...` hidden."""
    return _without_secrets(redacted_urls(text))


def redacted_urls(text: str) -> str:
    """A text with every URL in it redacted, and nothing else."""
    return _IN_TEXT.sub(lambda found: redacted(found[0]), text) if "://" in text or ":\\" in text else text


def redacted_values(content: Any) -> Any:
    """Plain values, such as a configuration that is shown or given away, with every URL in them redacted."""
    if isinstance(content, str):
        return redacted_urls(content)
    if isinstance(content, Mapping):
        return {name: redacted_values(each) for name, each in content.items()}
    return [redacted_values(each) for each in content] if isinstance(content, list | tuple) else content


def _shown(part: str) -> str:
    name, sign, value = part.partition("=")
    if not sign:
        return HIDDEN if part else ""
    harmless = name.lower() in HARMLESS and re.fullmatch(r"[\w.-]*", value) is not None
    return f"{name}={value if harmless else HIDDEN}"


def _without_secrets(text: str) -> str:
    return _SECRET.sub(rf"\1\2{HIDDEN}", text)
