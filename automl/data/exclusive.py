"""Files in stores that are written only if there is none of their name: of several who try one succeeds."""

from __future__ import annotations

import inspect
import os
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.fs

CONDITIONAL = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}  # fsspec's protocols of such stores
EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


def create_exclusively(there: pyarrow.fs.FileSystem, url: str, path: str, content: bytes) -> bool | None:
    """Write `content` at `path` of a store unless there is something; whether it was written.

    `url` is a folder of the store, as the user has named it. None, and nothing written, where that cannot be done by
    one request: pyarrow has none for it, so S3 takes boto3 (`If-None-Match`), Google's and Azure's stores gcsfs and
    adlfs. Raises what they raise where the store does not answer.
    """
    if isinstance(there, pyarrow.fs.LocalFileSystem):
        return _here(Path(path), content)
    if isinstance(there, pyarrow.fs.S3FileSystem):
        return _in_s3(url, path, content)
    handler = getattr(there, "handler", None)
    return _by_fsspec(handler.fs, path, content) if isinstance(handler, pyarrow.fs.FSSpecHandler) else None


def _here(path: Path, content: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(content)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _in_s3(url: str, path: str, content: bytes) -> bool | None:
    if find_spec("boto3") is None:
        return None
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    named = parse_qs(urlsplit(url).query).get("region", [""])[0]
    region = named or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    bucket, _, key = path.partition("/")
    try:
        client = boto3.client("s3", region_name=region)
        client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        return False if error.response.get("Error", {}).get("Code") in EXISTS else None
    except (BotoCoreError, ValueError, TypeError):  # it is set up for pyarrow only, or too old to know the condition
        return None
    return True


def _by_fsspec(system: Any, path: str, content: bytes) -> bool | None:
    protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    pipe = getattr(system, "_pipe_file", system.pipe_file)
    if protocols.isdisjoint(CONDITIONAL) or "mode" not in inspect.signature(pipe).parameters:
        return None
    try:
        system.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    except Exception as error:
        status = {str(getattr(error, name, "")) for name in ("code", "status_code")}
        if status & EXISTS:
            return False
        raise
    return True
