import pytest

from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss
from tiny_models import tiny_coca
from training.tasks import ClipTask


def test_a_captioning_model_is_refused_before_training():
    with pytest.raises(ConfigError, match="no captioning recipe yet"):
        ClipTask(tiny_coca(), ClipLoss(), mean=(0.5,) * 3, std=(0.5,) * 3)
