"""Whatever is wrong with a JPEG file, the fast decoder changes neither a pixel nor a refusal."""

import io
import random
import warnings

import numpy as np
import pytest
from PIL import Image

from sample_images import make_image
from training.data.decode import ImageBytes, ImageError

pytestmark = pytest.mark.faults

KINDS = [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}, {"exif": True}, {"mode": "L"}]


def make_files():
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, options in enumerate(KINDS):
        options = options | ({"exif": turned} if "exif" in options else {})
        image = make_image(40 + number, 33, number, options.pop("mode", "RGB"))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80, **options)
        yield file.getvalue()


def mutate(rng, content):
    content = bytearray(content)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(content[: rng.randrange(1, len(content))])
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) if kind == 1 else min(len(content), 700))
        if kind == 3:
            content[at : at + rng.randint(0, 5)] = rng.randbytes(rng.randint(0, 5))
        else:
            content[at] = rng.randrange(256)
    return bytes(content)


def outcome(decode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = decode()
        except ImageError as error:
            return str(error)
    return getattr(image, "mode", "RGB"), np.asarray(image).shape, np.asarray(image).tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_mutated_jpegs_have_one_outcome(seed):
    pytest.importorskip("simplejpeg", reason="needs the extra `fast`")
    rng = random.Random(seed)
    files = list(make_files())
    for _ in range(400):
        content = mutate(rng, rng.choice(files)) or b"\xff"
        expected = outcome(lambda c=content: ImageBytes(c).open())
        assert outcome(lambda c=content: ImageBytes(c).open_pixels()) == expected
