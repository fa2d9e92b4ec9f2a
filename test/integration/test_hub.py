"""Models of the Hugging Face hub, through its own client against a stand-in server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import open_clip
from file_server import serve_files
from open_clip.checkpoint import write_safetensors
from tiny_models import tiny_clip, tiny_config

SOURCE = str(Path(open_clip.__file__).resolve().parents[1])
BUILD = """
import sys, open_clip
try:
    model, preprocess = open_clip.create_model_from_pretrained(sys.argv[1], cache_dir=sys.argv[2])
    print(model.visual.proj.sum().item(), model.visual.preprocess_cfg["resize_mode"])
except open_clip.errors.OpenClipError as error:
    print(error)
"""


def build(name, folder, endpoint, **environment):
    """Build a model in a process of its own: the client reads its address when it is imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": SOURCE,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    command = [sys.executable, "-c", BUILD, name, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def files(tmp_path):
    write_safetensors(tiny_clip(seed=3).state_dict(), tmp_path / "w.safetensors")
    config = {"model_cfg": tiny_config(), "preprocess_cfg": {"resize_mode": "squash"}}
    root = "/org/repo/resolve/main/"
    return {
        root + "open_clip_config.json": json.dumps(config).encode(),
        root + "open_clip_model.safetensors": (tmp_path / "w.safetensors").read_bytes(),
    }


def test_a_hub_model_is_fetched_once_and_then_works_offline(files, tmp_path):
    expected = f"{tiny_clip(seed=3).visual.proj.sum().item()} squash\n"
    with serve_files(files=files) as server:
        assert build("hf-hub:org/repo", tmp_path / "cache", server.url) == expected
    assert build("hf-hub:org/repo", tmp_path / "cache", server.url, HF_HUB_OFFLINE="1") == expected


def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do(tmp_path):
    said = build("hf-hub:org/repo", tmp_path / "cache", "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert "open_clip_config.json is not in the local cache and the hub cannot be reached" in said
    assert "local-dir:PATH" in said


def test_a_repository_without_a_configuration_is_said(tmp_path):
    with serve_files() as server:
        said = build("hf-hub:org/repo", tmp_path / "cache", server.url)
    assert "has no file called open_clip_config.json" in said


def test_weights_under_an_older_name_are_found_in_the_cache_offline(files, tmp_path):
    root = "/org/repo/resolve/main/"
    safe = files.pop(root + "open_clip_model.safetensors")
    files[root + "open_clip_pytorch_model.safetensors"] = safe
    with serve_files(files=files) as server:
        first = build("hf-hub:org/repo", tmp_path / "cache", server.url)
    assert first.endswith("squash\n")
    assert build("hf-hub:org/repo", tmp_path / "cache", "http://127.0.0.1:9", HF_HUB_OFFLINE="1") == first
