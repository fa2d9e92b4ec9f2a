import pickle

import pytest

from open_clip.errors import CheckpointError, ConfigError, ModelFolderError, OpenClipError

HOSTILE = "\x1b[31mred\r\u202e \ud800 https://user:word@host/w.pt?X-Amz-Signature=abc\n  second line"


@pytest.mark.parametrize("kind", [OpenClipError, ConfigError, CheckpointError, ModelFolderError])
def test_no_message_steers_a_terminal_or_tells_a_secret(kind):
    error = kind(HOSTILE)
    assert str(error).splitlines() == [
        "\\x1b[31mred\\r\\u202e \\ud800 https://__hidden__@host/w.pt?X-Amz-Signature=__hidden__",
        "  second line",
    ]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
