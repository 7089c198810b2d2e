"""Passwords, tokens and signatures of URLs are never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.space import UserError, parse
from automl.space.families import FAMILIES
from automl.space.urls import redacted, redacted_text, redacted_values

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "https://host/data.csv?token=hunter2",
        "https://host/data.csv?sv=1&sig=hunter2&se=2",
        "https://bucket.s3.amazonaws.com/a.csv?X-Amz-Credential=a&X-Amz-Signature=hunter2",
        "https://host/data.csv?hunter2",
        "https://host/data.csv;a=1?a=1;password=hunter2",
        "https://host/data.csv#access_token=hunter2",
        "https://hunter2@host/data.csv",
        "https://user:hunter2@host:80/data.csv",
        "https://hunter2:x-oauth-basic@host/data.csv",
        "mysql+pymysql://user:hunter2/with?all#of@them@host/db",
        "postgresql://host/db?user=me&password=hunter2",
        "github://a/b::https://user:hunter2@host/data.csv",
        "simplecache::https://user:hunter2@host/data.csv",
        "zip://a.csv::https://user:hunter2@host/data.zip",
        "HTTPS://user:hunter2@host/",
        f"mysql://user:hunter2{'x' * 5000}@host/db",
        "http:\\\\user:hunter2@host/",
        "s3://hunter2:key@bucket/runs?region=hunter2@x",
    ],
)
def test_what_is_secret_in_a_url_is_not_shown(url: str) -> None:
    assert SECRET not in redacted(url)
    assert SECRET not in redacted_text(f"cannot read '{url}': 403, message='Forbidden'")
    assert redacted(redacted(url)) == redacted(url)


def test_what_is_not_secret_is_shown() -> None:
    for url in ("s3://bucket/runs/a b.csv", "sqlite:///study.db", "http://[::1]:8000/x", "s3://bucket/dir@2x/a.csv"):
        assert redacted(url) == url
        assert redacted_text(f"there is no file at {url}") == f"there is no file at {url}"
    assert redacted("postgresql://me@host/db") == "postgresql://me@host/db"
    assert redacted("mysql://a:b@host:3306/db?charset=utf8mb4&local_infile=1") == (
        "mysql://***@host:3306/db?charset=utf8mb4&local_infile=***"
    )


def test_secrets_in_messages_without_a_url() -> None:
    assert redacted_text("GET /data.csv?sig=hunter2 failed") == "GET /data.csv?sig=*** failed"
    assert redacted_text("AWS_SECRET_ACCESS_KEY=hunter2 is wrong") == "AWS_SECRET_ACCESS_KEY=*** is wrong"
    assert redacted_text("learning_rate=0.1 and layers=2") == "learning_rate=0.1 and layers=2"


def test_long_texts_are_redacted_at_once() -> None:
    for part in ("a", "a://", "a://b:", "a?", "token", "://@", "?token="):
        text = part * (200_000 // len(part))
        redacted(text), redacted_text(text), redacted(f"x://{text}")


@given(st.text(), st.text(alphabet="abc:/?#@&=;%.\\[]", max_size=40))
def test_any_text_can_be_redacted(text: str, rest: str) -> None:
    redacted(text), redacted_text(text), redacted(f"https://{rest}"), redacted_text(f"see https://{rest}")


@pytest.mark.parametrize("url", ["https://host/a.csv?sig=hunter2", "http://me:hunter2@host/a.csv"])
def test_no_mistake_in_a_file_or_an_override_repeats_a_secret(url: str) -> None:
    """Whatever is wrong: a key beside the URL, the value itself, or what an override says."""
    assert str(UserError(f"cannot read {url}")) == f"cannot read {redacted(url)}"
    files = [
        f'data: {{train: "{url}", lable: x}}',
        f'data: {{train: {{a: "{url}"}}}}',
        f'data: "{url}"',
        f'data: {{train: "{url}" : x}}',
    ]
    for text in files:
        with pytest.raises(UserError) as caught:
            parse(f"name: x\n{text}\nmodel: {{cnn: {{}}}}\n", FAMILIES)
        assert SECRET not in str(caught.value)
    for override in (f"data.trian={url}", f"data.train={{a: '{url}'}}", f"data={url}", f"data.train={url} : x"):
        with pytest.raises(UserError) as caught:
            parse("name: x\ndata: {train: a.csv}\nmodel: {cnn: {}}\n", FAMILIES, overrides=[override])
        assert SECRET not in str(caught.value)


def test_the_mark_below_a_line_stands_below_what_is_wrong_there() -> None:
    text = 'name: x\ndata: {train: "http://host/a.csv?sig=hunter2", lable: x}\nmodel: {cnn: {}}\n'
    with pytest.raises(UserError) as caught:
        parse(text, FAMILIES)
    _, line, mark = str(caught.value).splitlines()[:3]
    assert line[mark.index("^") :].startswith("lable")


def test_values_that_are_shown_are_redacted_at_any_depth() -> None:
    content = {"train": ["a.csv", "https://host/a.csv?sig=hunter2"], "x": {"y": ("s3://bucket/a", 1, None)}}
    found = {"train": ["a.csv", "https://host/a.csv?sig=***"], "x": {"y": ["s3://bucket/a", 1, None]}}
    assert redacted_values(content) == found
