import gzip
from pathlib import Path

import pytest

from open_clip.errors import DataError
from open_clip.tokenizer import bytes_to_unicode, default_bpe
from open_clip.tokenizer.vocabulary import read_merges


def test_every_byte_has_a_printable_character_of_its_own():
    characters = bytes_to_unicode()
    assert sorted(characters) == list(range(256))
    assert len(set(characters.values())) == 256
    assert not any(character.isspace() for character in characters.values())


def test_printable_bytes_come_first_and_stand_for_themselves():
    characters = bytes_to_unicode()
    assert list(characters)[:2] == [ord("!"), ord('"')]
    assert characters[ord("a")] == "a"
    assert characters[0] == chr(256)
    assert characters[ord(" ")] == chr(256 + 32)


def test_the_vocabulary_ships_with_the_package():
    assert Path(default_bpe()).name == "bpe_simple_vocab_16e6.txt.gz"
    merges = read_merges(default_bpe())
    assert len(merges) == 48894
    assert merges[0] == ("i", "n")


def test_a_damaged_file_is_refused_with_its_name(tmp_path):
    cut = tmp_path / "cut.gz"
    cut.write_bytes(Path(default_bpe()).read_bytes()[:5000])
    with pytest.raises(DataError, match="cut.gz"):
        read_merges(cut)
    three = tmp_path / "three.gz"
    three.write_bytes(gzip.compress(b"header\na b c\n"))
    with pytest.raises(DataError, match="two symbols a line"):
        read_merges(three)
