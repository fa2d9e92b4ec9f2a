"""Secrets in addresses and commands are left out; addresses without any stay as they are."""

import time

import pytest

from open_clip.errors import printable
from open_clip.redaction import HIDDEN, is_redacted, redact

SECRET = "wJalrXUtnFEMI"
WITH_SECRETS = [
    f"1/x.tar?token={SECRET}",
    f"s3://user:{SECRET}@host/x.tar",
    f"s3://AKIA:{SECRET}/more+slashes@bucket/key",
    f"ftp://me:{SECRET}@host/x",
    f"https://{SECRET}@github.com/x",
    f"http://u:{SECRET}@h:8080/{{0..3}}.tar::http://u:{SECRET}@h/2.tar",
    f"https://host/x?token={SECRET}",
    f"https://host/x.tar?a=1&X-Amz-Credential={SECRET}%2F2024&X-Amz-Security-Token={SECRET}&X-Amz-Signature={SECRET}",
    f"https://blob/x?sv=2020&sig={SECRET}",
    f"https://oss/x?OSSAccessKeyId={SECRET}&Expires=1&Signature={SECRET}",
    f"cannot open https://host/x?access_token={SECRET}, and more",
    f"pipe:curl -s -H 'Authorization: Bearer {SECRET}' https://host/x.tar",
    f'pipe:curl -H "X-Api-Key: {SECRET}" https://host/x.tar',
    f"pipe:curl -H Authorization:\\ Bearer\\ {SECRET} host",
    f"pipe:curl -u me:{SECRET} https://host/x",
    f"pipe:curl --user=me:{SECRET} https://host/x",
    f"pipe:AWS_SECRET_ACCESS_KEY='{SECRET} {SECRET}' aws s3 cp s3://b/x -",
    f"pipe:hf --token {SECRET} x",
    f"pipe:sshpass -p {SECRET} ssh host cat x",
]


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_a_secret_is_hidden_once_and_for_all(text):
    hidden = redact(text)
    assert SECRET not in hidden
    assert SECRET not in printable(text)
    assert redact(hidden) == hidden
    assert is_redacted({"a": [hidden]})


@pytest.mark.parametrize(
    "text",
    [
        "train.csv",
        "s3://bucket/{000..100}.tar",
        "https://host:8080/x@v1/y?page=3",
        "hdfs://user@namenode/x",
        "pipe:aws s3 cp s3://b/x -",
        "pipe:cat 'file with -user token.tar'",
        "a token: what a tokenizer makes",
        "https://host/x?monkey=1",
    ],
)
def test_what_holds_no_secret_stays(text):
    assert redact(text) == text
    assert not is_redacted(text)


def test_a_long_hostile_text_costs_little():
    started = time.monotonic()
    for piece in ("://:", "?", "token", " -u", "'cookie:", "a-", "authorization:"):
        redact("pipe:" + piece * (100_000 // len(piece)) + "://")
    assert time.monotonic() - started < 30


def test_the_place_of_a_secret_is_no_glob_or_variable():
    assert HIDDEN.strip("_").isalpha()
