import hashlib
import io
from email.message import Message
from unittest.mock import patch
from urllib.response import addinfourl

import pytest

from open_clip.errors import CheckpointError
from open_clip.pretrained import download_pretrained, download_pretrained_from_url

CONTENT = b"pretrained model weights"
HASH = hashlib.sha256(CONTENT).hexdigest()
URLS = [
    f"https://openaipublic.example.com/clip/models/{HASH}/RN50.pt",
    f"https://example.com/mlfoundations/download/v0.2-weights/rn50-quickgelu-{HASH[:8]}.pt",
]


def answer(content):
    headers = Message()
    headers["Content-Length"] = str(len(content))
    return addinfourl(io.BytesIO(content), headers, "https://example.com/weights", 200)


@pytest.fixture
def network():
    """Stand for the network, at the place where programs written for upstream put theirs."""
    with patch("open_clip.pretrained.urllib") as urllib:
        yield urllib.request.urlopen


@pytest.mark.parametrize("url", URLS)
def test_a_download_is_verified_and_kept(url, network, tmp_path):
    network.return_value = answer(CONTENT)
    path = download_pretrained_from_url(url, str(tmp_path))
    assert path == str(tmp_path / url.rpartition("/")[2])
    assert (tmp_path / path).read_bytes() == CONTENT
    network.assert_called_once()


@pytest.mark.parametrize("url", URLS)
def test_a_wrong_download_is_refused_and_not_kept(url, network, tmp_path):
    network.return_value = answer(b"something else")
    with pytest.raises(RuntimeError, match="checksum does not not match"):
        download_pretrained_from_url(url, str(tmp_path))
    network.assert_called_once()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("url", URLS)
def test_a_sound_file_in_the_cache_is_used(url, network, tmp_path):
    (tmp_path / url.rpartition("/")[2]).write_bytes(CONTENT)
    download_pretrained_from_url(url, str(tmp_path))
    network.assert_not_called()


@pytest.mark.parametrize("url", URLS)
def test_a_damaged_file_in_the_cache_is_fetched_again(url, network, tmp_path):
    cached = tmp_path / url.rpartition("/")[2]
    cached.write_bytes(CONTENT[:-1])
    network.return_value = answer(CONTENT)
    download_pretrained_from_url(url, str(tmp_path))
    network.assert_called_once()
    assert cached.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["https://example.com/", "https://example.com/a/%2e%2e"])
def test_an_address_without_a_file_name_is_refused(url, tmp_path):
    with pytest.raises(CheckpointError, match="ends in no file name"):
        download_pretrained_from_url(url, str(tmp_path))


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.com/w.pt", "/etc/hostname"])
def test_only_the_web_is_downloaded_from(url, tmp_path):
    with pytest.raises(CheckpointError, match="no http or https address"):
        download_pretrained_from_url(url, str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_a_name_never_leads_out_of_the_cache(network, tmp_path):
    network.return_value = answer(CONTENT)
    url = "https://example.com/a/%2e%2e%2f%2e%2e%2fweights.pt"
    assert download_pretrained_from_url(url, str(tmp_path)) == str(tmp_path / "weights.pt")


def test_an_entry_with_a_local_file_needs_no_download():
    assert download_pretrained({"file": "weights.pt", "url": URLS[0], "hf_hub": "org/repo/"}) == "weights.pt"


def test_an_entry_that_names_no_place_gives_nothing():
    assert download_pretrained({}) == ""


def test_no_secret_of_an_address_is_told(network, tmp_path, caplog):
    network.side_effect = ConnectionError("https://user:word@example.com/w.pt went away")
    with patch("time.sleep"), pytest.raises(CheckpointError) as raised:
        download_pretrained_from_url("https://user:word@example.com/w.pt?X-Amz-Signature=abc", str(tmp_path))
    told = str(raised.value) + caplog.text
    assert "example.com/w.pt" in told
    assert "word" not in told
    assert "abc" not in told


def test_a_download_goes_through_no_planted_link(network, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    cache = tmp_path / "cache"
    cache.mkdir()
    url = URLS[1]
    part = cache / f".{url.rpartition('/')[2]}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    part.symlink_to(victim)
    network.return_value = answer(CONTENT)
    path = cache / download_pretrained_from_url(url, str(cache))
    assert victim.read_text() == "mine"
    assert path.read_bytes() == CONTENT
    assert not path.is_symlink()
