"""No message steers a terminal or tells a secret, whatever it takes from names and from the errors of libraries."""

import pickle

import pytest

from open_clip.errors import (
    CheckpointError,
    ConfigError,
    MissingDependency,
    ModelFolderError,
    OpenClipError,
    first_line,
    naming,
)

HOSTILE = "\x1b[31mred\r\u202e \ud800 https://user:word@host/w.pt?X-Amz-Signature=abc\n  second line"


@pytest.mark.parametrize("kind", [OpenClipError, ConfigError, CheckpointError, ModelFolderError])
def test_no_message_steers_a_terminal_or_tells_a_secret(kind):
    error = kind(HOSTILE)
    assert str(error).splitlines() == [
        "\\x1b[31mred\\r\\u202e \\ud800 https://__hidden__@host/w.pt?X-Amz-Signature=__hidden__",
        "  second line",
    ]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("404 Client Error.\n\nRequest ID: 7", "404 Client Error"),
        ("\n  torn at byte 5: \nmore", "torn at byte 5"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("https://user:secret@host/x", "https://__hidden__@host/x"),
        ("", "KeyError"),
    ],
)
def test_an_error_is_shown_by_its_first_line_escaped_and_without_secrets(text, shown):
    error = KeyError() if not text else OSError(text)
    assert first_line(error) == shown


@pytest.mark.parametrize("kind", [OpenClipError, ConfigError, MissingDependency, ModelFolderError])
def test_an_error_says_below_its_message_which_flag_it_is_about(kind):
    with pytest.raises(kind) as raised, naming("--val-data"):
        raise kind("there is no such file")
    assert str(raised.value) == "there is no such file\n(--val-data)"
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_an_error_of_another_kind_passes_unchanged():
    with pytest.raises(OSError, match="^disk$"), naming("--val-data"):
        raise OSError("disk")
