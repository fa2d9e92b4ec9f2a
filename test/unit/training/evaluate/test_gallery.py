import base64
import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from open_clip.errors import DataError
from training.evaluate import build_gallery
from training.evaluate.gallery import make_thumbnail

NUM_IMAGES, CAPTIONS_EACH = 30, 3


@pytest.fixture(scope="module")
def image_paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for index in range(NUM_IMAGES):
        path = folder / f"{index}.jpg"
        Image.new("RGB", (320, 200), (index * 8, 100, 50)).save(path)
        paths.append(str(path))
    return paths


def partly_right(seed=0, share_right=0.5):
    """Features of a model that knows a share of the images well and guesses the others."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.arange(NUM_IMAGES).repeat_interleave(CAPTIONS_EACH)
    images = normalize(torch.randn(NUM_IMAGES, 32, generator=generator), dim=-1)
    noise = normalize(torch.randn(len(ids), 32, generator=generator), dim=-1)
    is_known = (torch.arange(NUM_IMAGES) < share_right * NUM_IMAGES)[ids][:, None]
    return images[ids], normalize(torch.where(is_known, images[ids] + 0.1 * noise, noise), dim=-1), ids


def gallery_of(paths, share_right=0.5, **options):
    images, texts, ids = partly_right(share_right=share_right)
    captions = [f"caption {row} of image {image}" for row, image in enumerate(ids.tolist())]
    return build_gallery(
        images, texts, ids, captions.__getitem__, opener([paths[one] for one in ids.tolist()]), **options
    )


def opener(paths):
    return lambda row: (Path(paths[row]).name, Image.open(paths[row]))


def test_examples_are_answered_with_their_best_candidates(image_paths):
    gallery = gallery_of(image_paths, count=6, top=5)
    images, texts, ids = partly_right()
    assert (len(gallery.images), len(gallery.captions)) == (6, 6)
    for example in gallery.images:
        image = int(example.query)
        scores = texts @ images[image * CAPTIONS_EACH]
        best = scores.topk(5)
        assert [match.content.split()[1] for match in example.matches] == [str(one) for one in best.indices.tolist()]
        assert [match.score for match in example.matches] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [match.is_right for match in example.matches] == [int(ids[one]) == image for one in best.indices]
        assert len(example.own) == CAPTIONS_EACH
        assert example.is_right == example.matches[0].is_right


def test_captions_are_answered_with_unique_images(image_paths):
    for example in gallery_of(image_paths).captions:
        keys = [match.content for match in example.matches]
        assert len(set(keys)) == 5
        assert example.own == (example.query.split()[-1],)
        assert [match.is_right for match in example.matches] == [key == example.own[0] for key in keys]


@pytest.mark.parametrize("share_right", [0.2, 0.5, 0.8])
def test_right_and_wrong_examples_are_mixed(image_paths, share_right):
    gallery = gallery_of(image_paths, share_right, count=9)
    for examples in (gallery.images, gallery.captions):
        assert len(examples) == 9
        assert 3 <= sum(example.is_right for example in examples) <= 6


def test_a_perfect_model_shows_only_right_examples(image_paths):
    gallery = gallery_of(image_paths, share_right=1.0, count=9)
    assert [example.is_right for example in gallery.images] == [True] * 9


def test_examples_are_spread_over_the_set(image_paths):
    queries = [int(example.query) for example in gallery_of(image_paths, count=10).images]
    assert queries == sorted(set(queries))
    assert queries[0] < 6
    assert queries[-1] > 23


def test_the_same_features_give_the_same_gallery(image_paths):
    assert gallery_of(image_paths) == gallery_of(image_paths)


def test_every_named_image_has_one_thumbnail_of_at_most_160_pixels(image_paths):
    gallery = gallery_of(image_paths, count=4)
    named = {example.query for example in gallery.images}
    for example in gallery.captions:
        named |= {*example.own, *(match.content for match in example.matches)}
    assert set(gallery.thumbnails) == named
    for thumbnail in gallery.thumbnails.values():
        prefix, _, payload = thumbnail.uri.partition(",")
        assert prefix == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(payload))) as image:
            assert image.size == (160, 100) == (thumbnail.width, thumbnail.height)


def test_a_image_that_is_gone_has_no_thumbnail_but_a_name():
    assert make_thumbnail("gone.jpg", None).uri is None
    assert make_thumbnail("gone.jpg", None).name == "gone.jpg"


def test_a_set_smaller_than_the_gallery_is_shown_whole(image_paths):
    images = torch.eye(2, 4)
    gallery = build_gallery(images, images, [0, 1], "ab".__getitem__, opener(image_paths))
    assert (len(gallery.images), len(gallery.captions)) == (2, 2)
    assert len(gallery.images[0].matches) == 2


def test_lengths_that_disagree_are_refused(image_paths):
    with pytest.raises(DataError, match=r"\[2, 2, 1\]"):
        build_gallery(torch.eye(2), torch.eye(2), [0], "ab".__getitem__, opener(image_paths))


def test_what_captions_and_names_hold_steers_nothing_where_they_are_shown():
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469"
    captions = ["\x1b[2Ja\nred  circle\t", f"\u202e{joined}"]
    gallery = build_gallery(
        torch.eye(2), torch.eye(2), [0, 1], captions.__getitem__, lambda row: (f"{row}\x1b[2J\n.jpg", None)
    )
    assert {example.query for example in gallery.captions} == {"\\x1b[2Ja red circle", f"\\u202e{joined}"}
    assert all(thumbnail.name.isprintable() for thumbnail in gallery.thumbnails.values())
