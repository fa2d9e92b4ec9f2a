import pytest

import open_clip
from open_clip import factory, loss, model, transformer


def test_every_public_name_can_be_had_and_is_listed():
    for name in open_clip.__all__:
        assert getattr(open_clip, name) is not None
        assert name in dir(open_clip)


def test_rooms_are_attributes_without_an_import_of_their_own():
    assert open_clip.factory.get_tokenizer is open_clip.get_tokenizer
    assert open_clip.loss.ClipLoss is open_clip.ClipLoss


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = open_clip.nonsense


@pytest.mark.parametrize("room", [factory, loss, model, transformer])
def test_a_room_has_every_name_it_lists(room):
    for name in room.__all__:
        assert hasattr(room, name)
