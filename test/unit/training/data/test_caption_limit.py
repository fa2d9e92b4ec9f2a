"""One limit for captions, whatever they come from."""

import pytest

from open_clip.errors import DataError
from training.data.encoding import MAX_CAPTION_BYTES, MAX_CAPTION_CHARS, why_not_caption
from training.data.shards.selector import RawSample, Selector
from training.data.shards.tar import Member

LONGEST = "\u6bb5" * MAX_CAPTION_CHARS


def test_a_table_and_a_shard_take_the_same_captions():
    assert why_not_caption(LONGEST) is None
    assert Selector().caption(LONGEST.encode(), 0) == LONGEST
    for caption in (LONGEST + "x", " ", "a\0b"):
        with pytest.raises(DataError) as raised:
            Selector().caption(caption.encode(), 0)
        assert str(raised.value) == why_not_caption(caption)


def test_no_caption_within_the_limit_is_refused_for_its_bytes():
    image = Member("a.jpg", 512, 10)
    for size, is_taken in ((MAX_CAPTION_BYTES, True), (MAX_CAPTION_BYTES + 1, False)):
        sample = RawSample("a", {"jpg": image, "txt": Member("a.txt", 2048, size)})
        assert isinstance(Selector().choose(sample), tuple) is is_taken
