"""Lists as bad as they come: each row is read right or refused with its number, and nothing crashes or hangs."""

import os
import resource
import socket
import time

import pytest

from image_sets import IMAGES_OF_EMOJI, emoji_rows, write_pairs
from open_clip.errors import DataError
from training.data import read_csv_pairs

pytestmark = pytest.mark.faults
IMAGE = IMAGES_OF_EMOJI[0]
OTHER = IMAGES_OF_EMOJI[1]
HEADER = "filepath\ttitle\n"


def read(tmp_path, content, **options):
    path = tmp_path / "dirty.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_csv_pairs(path, **options)


def captions(table):
    return [table.read("text", index) for index in range(len(table))]


def reasons(table):
    return {fault.row: fault.reason for fault in table.faults}


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_to_read(tmp_path, encoding):
    content = f"{HEADER}{IMAGE}\tcaf\u00e9 \u732b\n{IMAGE}\t\U0001f600\n".encode(encoding)
    assert captions(read(tmp_path, content)) == ["caf\u00e9 \u732b", "\U0001f600"]


def test_utf_16_without_a_mark_is_refused_with_advice(tmp_path):
    with pytest.raises(DataError, match=r"UTF-16 without a byte order mark.*iconv"):
        read(tmp_path, f"{HEADER}{IMAGE}\ta\n".encode("utf-16-le"))


def test_damaged_utf_16_refuses_its_row_only(tmp_path):
    content = f"{HEADER}{IMAGE}\tgood\n{IMAGE}\tb\ud800d\n{IMAGE}\tgood\n".encode("utf-16-le", "surrogatepass")
    table = read(tmp_path, b"\xff\xfe" + content + b"\x41")
    assert captions(table)[0] == "good"
    assert "not valid text" in reasons(table)[3]


@pytest.mark.parametrize("encoding", ["gb18030", "latin-1", "euc-jp"])
def test_another_encoding_refuses_its_rows_with_numbers_and_advice(tmp_path, encoding):
    word = "caf\u00e9" if encoding == "latin-1" else "\u732b\u5728\u5c4b"
    content = HEADER.encode() + f"{IMAGE}\tplain\n{IMAGE}\t{word}\n{IMAGE}\tplain\n".encode(encoding)
    table = read(tmp_path, content)
    assert captions(table) == ["plain", "plain"]
    assert list(reasons(table)) == [3]
    assert "iconv -f GB18030 -t UTF-8" in reasons(table)[3]


def test_utf_8_with_lone_surrogates_and_nul_refuses_those_rows(tmp_path):
    content = (HEADER + f"{IMAGE}\ta\0b\n{IMAGE}\tfine\n").encode() + f"{IMAGE}\t".encode() + b"\xed\xa0\x80\n"
    table = read(tmp_path, content)
    assert captions(table) == ["fine"]
    assert reasons(table)[2] == "caption holds a NUL character"
    assert "not valid text" in reasons(table)[4]


def test_a_path_with_nul_or_broken_bytes_is_refused_not_opened(tmp_path):
    table = read(tmp_path, (HEADER + f"a\0b.jpg\tx\n{IMAGE}\ty\n").encode() + b"caf\xe9.jpg\tz\n")
    assert captions(table) == ["y"]
    assert set(reasons(table)) == {2, 4}
    assert all(str(fault).isprintable() for fault in table.faults)


@pytest.mark.parametrize("separator", ["\t", ","])
def test_an_unbalanced_quote_swallows_no_row(tmp_path, separator, caplog):
    rows = ['"left open', "plain", 'six inch 6"', '"closed"', '"open again', 'a "word" in it', "last"]
    content = f"filepath{separator}title\n" + "".join(f"{IMAGE}{separator}{row}\n" for row in rows)
    table = read(tmp_path, content, separator=separator)
    assert captions(table) == ['"left open', "plain", 'six inch 6"', "closed", '"open again', 'a "word" in it', "last"]
    assert "2 rows hold a quote that is never closed" in caplog.text
    assert "Rows: 2, 6" in caplog.text


def test_a_quote_left_open_at_the_end_of_the_file_keeps_the_row(tmp_path):
    assert captions(read(tmp_path, f'{HEADER}{IMAGE}\tone\n{IMAGE}\t"two')) == ["one", '"two']


def test_text_over_several_lines_in_quotes_is_one_row(tmp_path):
    content = f'filepath,title\n{IMAGE},"one,\ntwo, ""three""\nfour"\n{OTHER},five\n'
    table = read(tmp_path, content, separator=",")
    assert captions(table) == ['one,\ntwo, "three"\nfour', "five"]
    assert [table.row(0), table.row(1)] == [2, 5]


def test_a_quote_that_opens_a_very_long_text_costs_no_time(tmp_path):
    lines = [f'{IMAGE}\t"open {number}\n' for number in range(20_000)]
    start = time.process_time()
    table = read(tmp_path, HEADER + "".join(lines))
    assert len(table) == 20_000
    assert time.process_time() - start < 5
    plain = [f'x"{number} "\n' for number in range(20_000)]
    table = read(tmp_path, HEADER + f'{IMAGE}\t"open\n' + "".join(plain) + f"{IMAGE}\tend\n")
    assert captions(table) == ['"open', "end"]
    assert len(table.faults) == 20_000
    assert time.process_time() - start < 10


@pytest.mark.parametrize("caption", ["x" * 10_000_000, "x " * 200_000, '"' + "y" * 10_000_000, "z" * 50_000_000])
def test_an_endless_line_refuses_one_row_in_little_memory(tmp_path, caption):
    content = f"{HEADER}{IMAGE}\tone\n{IMAGE}\t{caption}\n{IMAGE}\tthree\n".encode()
    before = peak_bytes()
    table = read(tmp_path, content)
    assert captions(table) == ["one", "three"]
    assert list(reasons(table)) == [3]
    assert table.faults[0].path == IMAGE
    assert table.row(1) == 4
    assert peak_bytes() - before < 100e6


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\0", b"PK\x03\x04", b"PAR1", b"\0\0\0\0"])
def test_a_file_that_is_no_text_is_refused(tmp_path, start):
    with pytest.raises(DataError):
        read(tmp_path, start + os.urandom(2000))


def test_a_fifo_as_the_list_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(DataError, match="not a plain file"):
        read_csv_pairs(tmp_path / "list.csv")


def test_paths_that_are_no_files_are_refused_when_the_list_is_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.jpg"))
    os.symlink(tmp_path / "gone.jpg", tmp_path / "dangling.jpg")
    os.symlink(tmp_path / "loop.jpg", tmp_path / "loop.jpg")
    names = ["fifo", "folder", "socket", "dangling", "loop"]
    rows = [(str(tmp_path / f"{name}.jpg"), name) for name in names]
    table = read_csv_pairs(
        write_pairs(tmp_path / "a.csv", [*rows, ("/dev/zero", "x"), ("x" * 5000, "y"), (IMAGE, "good")])
    )
    server.close()
    assert captions(table) == ["good"]
    assert [fault.reason for fault in table.faults[:4]] == [
        "not an image file but a fifo",
        "not an image file but a folder",
        "not an image file but a socket",
        "image not found",
    ]
    assert len(table.faults) == 7
    assert table.faults[5].reason == "not an image file but a device"


def test_captions_of_the_shipped_set_are_all_sound(tmp_path):
    table = read_csv_pairs(write_pairs(tmp_path / "all.csv", emoji_rows(1800)))
    assert (len(table), table.num_images, table.faults) == (9000, 1800, ())
