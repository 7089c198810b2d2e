"""Which URLs may be opened at all: a search-space file names them, and others may have written it."""

from __future__ import annotations

import os
import re

from automl.data.addresses import require_allowed_host
from automl.data.names import leads_out, leads_out_error
from automl.data.web import checked_url
from automl.space import UserError
from automl.space.urls import redacted

WEB = ("http", "https")
SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", *WEB, "memory")
VARIABLE = "AUTOML_URL_SCHEMES"  # more of them, with commas
# Of what a URL may say of its store; an endpoint is the user's to name, in the environment.
OPTIONS = re.compile(r"region=[\w-]{1,64}", re.ASCII)
AZURE = (".core.windows.net", ".core.chinacloudapi.cn", ".core.usgovcloudapi.net")

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,30})://(?P<root>[^?#]+)(?:\?(?P<query>[^#]*))?", re.IGNORECASE)


def is_url(place: str) -> bool:
    """Whether `place` is a URL and no path."""
    return "://" in place


def require_allowed_url(url: str) -> None:
    """Raise UserError for a URL that is never opened.

    It is one of another kind of store than `SCHEMES` and `$AUTOML_URL_SCHEMES` name, one that leads through others
    (`simplecache::http://...`), holds credentials, an endpoint, or a path with `..`.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UserError(f"{redacted(url)!r} is no URL of a store; expected one such as s3://bucket/runs")
    scheme, root = found["scheme"].lower(), found["root"]
    if scheme not in _schemes():
        raise UserError(
            f"cannot use the store {redacted(url)}: {scheme}:// is none of {', '.join(SCHEMES)}; "
            f"set {VARIABLE}={scheme} if you trust it"
        )
    if scheme in WEB:
        checked_url(url)
        return
    if "@" in root.partition("/")[0]:
        raise UserError("a URL that holds credentials would be written down with the run; give them in the environment")
    if "::" in url:
        raise UserError(f"cannot use the store {redacted(url)}: it leads through another one")
    if found["query"] is not None and not OPTIONS.fullmatch(found["query"]):
        raise UserError(f"{redacted(url)} has options of the store; give them in the environment (AWS_ENDPOINT_URL)")
    if leads_out(root.strip("/")):
        raise leads_out_error(url)
    host = root.partition("/")[0]
    require_allowed_host(host)
    if scheme in ("abfs", "abfss", "az") and ("." in host or ":" in host) and not host.lower().endswith(AZURE):
        raise UserError(f"{redacted(url)} names no Azure storage account")


def _schemes() -> set[str]:
    return {*SCHEMES, *(each.strip().lower() for each in os.environ.get(VARIABLE, "").split(",") if each.strip())}
