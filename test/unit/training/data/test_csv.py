import csv as standard_csv
import os

import pytest

from image_sets import IMAGES_DIR, emoji_rows, write_pairs
from open_clip import tokenize
from open_clip.errors import ConfigError, DataError
from training.data import read_csv_pairs
from training.data.records import RecordReader

ROWS = emoji_rows(4)
IMAGES = [image for image, _ in emoji_rows(6, captions=1)]


def pairs(table):
    return [(table.image_path(index), table.read("text", index)) for index in range(len(table))]


def read(tmp_path, content, **options):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_csv_pairs(path, **options)


def test_upstreams_default_form_is_read_row_by_row(tmp_path):
    table = read_csv_pairs(write_pairs(tmp_path / "train.csv", ROWS))
    assert pairs(table) == ROWS
    assert [table.row(index) for index in range(3)] == [2, 3, 4]
    assert table.key(0) == "train.csv:2"
    assert table.num_images == 4
    assert [table.image_id(index) for index in range(20)] == [row // 5 for row in range(20)]
    assert table.faults == ()
    assert table.num_rows_read == 20


@pytest.mark.parametrize("separator", [",", "|", ";", " ", "::", "||", "\t", "，", "｜"])
def test_any_separator_is_taken_as_it_stands(tmp_path, separator):
    table = read_csv_pairs(write_pairs(tmp_path / "a.csv", [(IMAGES[0], "cat")], separator), separator)
    assert pairs(table) == [(IMAGES[0], "cat")]


def test_a_tab_may_be_spelt_out(tmp_path):
    assert len(read_csv_pairs(write_pairs(tmp_path / "a.csv", ROWS), "\\t")) == 20


@pytest.mark.parametrize("separator", ["", '"', "\n", ",\r"])
def test_a_separator_that_cannot_separate_is_a_usage_error(tmp_path, separator):
    with pytest.raises(ConfigError, match="--csv-separator"):
        read_csv_pairs(write_pairs(tmp_path / "a.csv", ROWS), separator)


def test_modelzoo_columns_and_rfc_4180_quotes_are_read(tmp_path):
    captions = ['A "big" dog', "two , three", 'six inch 6"', "line one\nline two", '"', ""]
    path = tmp_path / "flickr30k_train.csv"
    with open(path, "w", newline="") as file:
        writer = standard_csv.writer(file)
        writer.writerows([("img_key", "caption_key"), *((IMAGES[0], caption) for caption in captions)])
    table = read_csv_pairs(path, ",", "img_key", "caption_key")
    assert [caption for _, caption in pairs(table)] == captions[:-1]
    assert [table.row(index) for index in range(5)] == [2, 3, 4, 5, 7]
    assert [(fault.row, fault.reason) for fault in table.faults] == [(8, "caption is empty")]


def test_columns_may_stand_anywhere_and_others_are_left_alone(tmp_path):
    content = f"id\ttitle\tfilepath\tnote\n7\ta cat\t{IMAGES[0]}\tx\n8\ta dog\t{IMAGES[1]}\n"
    assert pairs(read(tmp_path, content)) == [(IMAGES[0], "a cat"), (IMAGES[1], "a dog")]


def test_column_names_may_be_padded_as_in_the_repack(tmp_path):
    content = f"image_name| comment_number| comment\n{IMAGES[0]}| 0| A cat .\n"
    table = read(tmp_path, content, separator="|", img_key="image_name", caption_key="comment")
    assert table.read("text", 0).strip() == "A cat ."


def test_a_relative_image_is_taken_from_here_then_from_beside_the_list(tmp_path, monkeypatch):
    monkeypatch.chdir(IMAGES_DIR)
    name = os.path.basename(IMAGES[0])
    beside = tmp_path / "beside.jpg"
    beside.write_bytes(b"x")
    table = read(tmp_path, f"filepath\ttitle\n{name}\ta\nbeside.jpg\tb\nnowhere.jpg\tc\n")
    assert pairs(table) == [(name, "a"), (str(beside), "b")]
    assert table.faults[0].reason == f"image not found (looked in {IMAGES_DIR} and {tmp_path})"


def test_a_folder_that_was_looked_in_twice_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = read(tmp_path, f"filepath\ttitle\n{IMAGES[0]}\ta\nnowhere.jpg\tb\n")
    assert table.faults[0].reason == f"image not found (looked in {tmp_path})"


def test_the_word_nan_is_a_word_and_a_missing_caption_is_not(tmp_path):
    content = f"filepath\ttitle\n{IMAGES[0]}\tnan\n{IMAGES[0]}\t\n{IMAGES[0]}\n{IMAGES[0]}\t  \n"
    table = read(tmp_path, content)
    assert [caption for _, caption in pairs(table)] == ["nan"]
    assert [(fault.row, fault.reason) for fault in table.faults] == [
        (3, "caption is empty"),
        (4, "no caption field"),
        (5, "caption is empty"),
    ]


def test_blank_lines_and_any_line_ending_keep_the_row_numbers(tmp_path):
    content = f"filepath\ttitle\r\n\r\n{IMAGES[0]}\ta\r\n{IMAGES[1]}\tb\n\n{IMAGES[2]}\tc"
    table = read(tmp_path, content)
    assert [(table.read("text", index), table.row(index)) for index in range(3)] == [("a", 3), ("b", 4), ("c", 6)]


def test_surplus_fields_refuse_the_row_unless_they_are_empty(tmp_path):
    content = f"filepath,title\n{IMAGES[0]},one, two\n{IMAGES[0]},three,,\n"
    table = read(tmp_path, content, separator=",")
    assert table.read("text", 0) == "three"
    assert table.faults[0].row == 2
    assert "3 fields where the header has 2" in table.faults[0].reason


def test_the_separator_of_the_file_is_named_when_another_is_asked_for(tmp_path):
    for own, asked in (("\t", ","), (",", "\t"), (";", "\t"), ("|", ",")):
        with pytest.raises(DataError) as raised:
            read(tmp_path, f"filepath{own}title\n{IMAGES[0]}{own}cat\n", separator=asked)
        advice = f"The separator is {asked!r}; the file seems to use {own!r}: pass --csv-separator {own!r}"
        assert advice in str(raised.value)


@pytest.mark.parametrize("row", [' "\t"""""\n', '"\t"\n\t"" a"\t"\n ""\tc"\t"\n', 'a"\t' + 'c"",' * 3000 + "\n", '"\n'])
def test_quotes_that_are_never_closed_cost_no_more_than_a_few_reads_of_the_file(tmp_path, row, monkeypatch):
    looked_at = []
    parse = RecordReader._parse

    def counting(self, texts, strict=False):
        return parse(self, (looked_at.append(len(text)) or text for text in texts), strict)

    monkeypatch.setattr(RecordReader, "_parse", counting)
    content = f"filepath\ttitle\n{IMAGES[0]}\tcat\n" + row * (1_000_000 // len(row))
    table = read(tmp_path, content)
    assert len(table) == 1
    assert sum(looked_at) < 8 * len(content) + (1 << 21)


def test_a_quote_goes_over_lines_behind_any_number_that_are_never_closed(tmp_path):
    good = f'{IMAGES[0]}\t"a cat\nsat"\n'
    table = read(tmp_path, "filepath\ttitle\n" + '"x\n' * 3000 + good * 2)
    assert [table.read("text", index) for index in range(len(table))] == ["a cat\nsat"] * 2


@pytest.mark.parametrize(
    "caption", ["&#" + "9" * 5000 + ";", "&" + "amp;" * 15_000, "&#5&#5&#4&#5&#5" * 20 + "5" + ";" * 100]
)
def test_a_caption_that_costs_too_much_is_a_bad_row_and_others_are_tokenized(tmp_path, caption):
    table = read(tmp_path, f"filepath\ttitle\n{IMAGES[0]}\t{caption}\n{IMAGES[0]}\tcat\n")
    assert all(tokenize(text).shape == (1, 77) for _, text in pairs(table))
    assert len(table) + len(table.faults) == 2
    assert all("nested more than 64 deep" in fault.reason for fault in table.faults)


def test_a_missing_column_names_those_found_and_the_nearest(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path, f"filepaths\ttitle\n{IMAGES[0]}\ta\n")
    text = str(caught.value)
    assert "no column 'filepath'" in text
    assert "Columns found: 'filepaths', 'title'" in text
    assert "Did you mean filepaths" in text
    assert "--csv-img-key" in text


@pytest.mark.parametrize(
    "content, words",
    [
        (f"filepath,title\n{IMAGES[0]},a\n", "the file seems to use ','"),
        (f"{IMAGES[0]}\ta cat\n", "looks like a row: add a header"),
        ("filepath\ttitle\n", "no row below its header"),
        ("filepath\ttitle", "no row below its header"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("filepath\ttitle\nno.jpg\ta\nno.jpg\tb\n", "None of the 2 rows"),
    ],
)
def test_an_unusable_file_says_what_is_wrong(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_a_missing_file_or_a_folder_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_csv_pairs(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="Is a directory"):
        read_csv_pairs(tmp_path)


def test_each_missing_image_is_looked_up_once_and_each_of_its_rows_is_named(tmp_path, monkeypatch):
    looked = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(str(path)) or real(path, **options))
    table = read_csv_pairs(write_pairs(tmp_path / "a.csv", [*ROWS, *[("/gone.jpg", "x")] * 3]))
    assert looked.count("/gone.jpg") == 1
    assert looked.count(ROWS[0][0]) == 1
    assert [fault.row for fault in table.faults] == [22, 23, 24]
    assert {fault.reason for fault in table.faults} == {"image not found"}


def test_a_table_is_a_few_arrays_whatever_its_length(tmp_path):
    import pickle

    table = read_csv_pairs(write_pairs(tmp_path / "a.csv", emoji_rows(200)))
    text = sum(len(caption) for _, caption in emoji_rows(200)) + 200 * len(IMAGES[0])
    assert len(pickle.dumps(table)) < text + 1000 * 24 + 200 * 8 + 2000
    assert pairs(pickle.loads(pickle.dumps(table))) == pairs(table)
