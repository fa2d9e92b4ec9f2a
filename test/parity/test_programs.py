"""Programs that reach into open_clip's models and modules find what they find in upstream's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import open_clip
import peer

pytestmark = peer.needs_peer

SOURCES = Path(open_clip.__file__).resolve().parents[1]
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3},
}
# float32 through three blocks, summed in another order.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    (folder / "tiny.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**CONFIG).state_dict(), folder / "tiny.pt")
    request = {"config": str(folder / "tiny.json"), "weights": str(folder / "tiny.pt")}
    return (
        peer.run_peer("programs", request, tmp_path_factory.mktemp("ours"), SOURCES),
        peer.run_peer("programs", request, tmp_path_factory.mktemp("theirs")),
    )


def test_every_habit_gives_what_upstream_gives(answers):
    ours, theirs = answers
    assert list(ours) == list(theirs)
    assert len(theirs) > 35
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        np.testing.assert_allclose(ours[name], expected, atol=TOLERANCE, rtol=0, err_msg=name)
