"""What a source hands out by column: an image that is not yet decoded, a text, and nothing else under those names."""

import pytest

from open_clip.errors import DataError
from pairs import make_pairs
from shard_sets import write_shards
from training.data import SyntheticTable, read_csv_pairs, read_image, read_text
from training.data.shards import Selector, Visit, open_shards


@pytest.fixture
def sources(tmp_path):
    table = make_pairs(tmp_path / "pairs", num_images=2, captions_each=1)
    folder = write_shards(tmp_path / "shards", [2])
    return (
        read_csv_pairs(table, ",", "img_key", "caption_key"),
        open_shards("shards", [str(folder / "00000.tar")], Selector(), Visit()),
        SyntheticTable(2, height=5, width=6),
    )


def test_every_source_names_its_columns_and_reads_one_of_a_row(sources):
    rows = [(read_image(source, 1).open().size, read_text(source, 1).split()[-1]) for source in sources]
    assert rows == [((48, 48), "1"), ((8, 8), "00000_1"), ((6, 5), "caption")]
    assert {source.columns for source in sources} == {("image", "text")}


def test_a_column_of_another_kind_is_an_unusable_row(sources):
    for source in sources:
        with pytest.raises(DataError, match="column 'text' holds no image but a str"):
            read_image(source, 0, column="text")
        with pytest.raises(DataError, match="column 'image' holds no text but a"):
            read_text(source, 0, column="image")
