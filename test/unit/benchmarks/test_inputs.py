import io
import json
import tarfile

import pytest
from PIL import Image

from benchmarks.captions import MIXES, describe_lengths, make_captions, read_captions, take
from benchmarks.images import make_images, read_images
from benchmarks.inputs import load_captions, make_inputs
from benchmarks.settings import Settings
from open_clip.tokenizer import SimpleTokenizer


@pytest.mark.parametrize("mix", MIXES)
def test_captions_follow_their_seed(mix):
    assert make_captions(mix, 20, 1) == make_captions(mix, 20, 1)
    assert make_captions(mix, 20, 1) != make_captions(mix, 20, 2)


def test_captions_have_the_lengths_that_their_mix_promises():
    tokenizer = SimpleTokenizer()
    lengths = {}
    for mix in ("short", "web"):
        ids = tokenizer(make_captions(mix, 1500, 0))
        lengths[mix] = describe_lengths((ids.argmax(dim=1) + 1).tolist())
    assert 13 <= lengths["short"]["mean"] <= 16
    assert lengths["short"]["max"] <= 40
    assert 13 <= lengths["web"]["mean"] <= 18
    assert lengths["web"]["max"] >= 60


def test_half_of_the_mixed_captions_are_not_ascii():
    mixed = make_captions("mixed", 1000, 0)
    assert 0.4 < sum(not caption.isascii() for caption in mixed) / len(mixed) < 0.6
    assert all(caption.isascii() for caption in make_captions("short", 1000, 0))


def test_an_unknown_mix_is_refused():
    with pytest.raises(ValueError, match="short, web, mixed"):
        make_captions("long", 1, 0)


def test_lengths_are_described_by_mean_95th_percentile_and_greatest():
    assert describe_lengths(list(range(1, 101))) == {"mean": 50.5, "p95": 95, "max": 100}


def test_taking_goes_round():
    assert take(["a", "b", "c"], 2, 4) == ["c", "a", "b", "c"]


@pytest.mark.parametrize("size, pixels", [("500", {(500, 375), (375, 500)}), ("256", {(256, 256)})])
def test_images_are_jpegs_of_their_size_and_follow_their_seed(size, pixels):
    images = make_images(size, 6, 3)
    assert {Image.open(io.BytesIO(data)).size for data in images} <= pixels
    assert {Image.open(io.BytesIO(data)).format for data in images} == {"JPEG"}
    assert images == make_images(size, 6, 3)
    assert images != make_images(size, 6, 4)


def test_own_captions_and_images_take_the_place_of_made_up_ones(tmp_path):
    (tmp_path / "own.txt").write_text("one\n\ntwo é\n", encoding="utf-8")
    (tmp_path / "own").mkdir()
    for number, data in enumerate(make_images("256", 3, 0)):
        (tmp_path / "own" / f"{number}.jpg").write_bytes(data)
    (tmp_path / "run").mkdir()
    settings = Settings(str(tmp_path / "run"), captions=str(tmp_path / "own.txt"), images=str(tmp_path / "own"))
    make_inputs(("captions-web", "tars-500"), settings)
    assert load_captions("captions-web", settings) == ["one", "two é"]
    found = {}
    for shard in sorted((tmp_path / "run" / "tars-500").glob("*.tar")):
        with tarfile.open(shard) as archive:
            found |= {member.name: archive.extractfile(member).read() for member in archive}
    assert [found[f"00000000{number}.jpg"] for number in range(3)] == read_images(tmp_path / "own")
    assert found["000000001.txt"].decode() == "1 two é"


def test_empty_inputs_are_refused(tmp_path):
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="one caption a line"):
        read_captions(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match=".jpeg"):
        read_images(str(tmp_path))


def test_settings_travel_as_json():
    settings = Settings("folder", seed=4, sizes={"batch": 2})
    assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings
