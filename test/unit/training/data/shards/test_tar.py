import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.shards.tar import TornTarError, read_members

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=160).filter(
    lambda name: name not in (".", "..") and name.strip()
)


def write_tar(path, members, format=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members_of(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [(member.name, os.pread(descriptor, member.size, member.offset)) for member in read_members(descriptor)]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(max_examples=40, deadline=None)
@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=1500)), min_size=1, max_size=8))
def test_members_equal_those_of_the_standard_library(tmp_path_factory, format, members):
    path = write_tar(tmp_path_factory.mktemp("tar") / "a.tar", members, format)
    assert members_of(path) == members


def test_ustar_prefixes_are_part_of_the_name(tmp_path):
    name = "/".join(["folder" * 4] * 5) + "/a.jpg"
    assert members_of(write_tar(tmp_path / "a.tar", [(name, b"x")], tarfile.USTAR_FORMAT)) == [(name, b"x")]


def test_folders_links_and_devices_are_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"odd{kind!r}.jpg")
            info.type, info.linkname = kind, "/etc/hostname"
            tar.addfile(info)
        info = tarfile.TarInfo("plain.txt")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"ok"))
    assert members_of(path) == [("plain.txt", b"ok")]


@pytest.mark.parametrize("keep", [1, 511, 512, 700, 1024, 1500, 2047])
def test_a_cut_file_gives_its_whole_members_and_then_says_where_it_was_cut(tmp_path, keep):
    path = write_tar(tmp_path / "a.tar", [("a.txt", b"a" * 400), ("b.txt", b"b" * 400)])
    path.write_bytes(path.read_bytes()[:keep])
    descriptor = os.open(path, os.O_RDONLY)
    members = []
    with pytest.raises(TornTarError, match=r"byte|not a tar"):
        members.extend(read_members(descriptor))
    os.close(descriptor)
    assert all(member.offset + member.size <= keep for member in members)


def test_a_flipped_bit_in_any_header_is_found(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.txt", b"a" * 10), ("b.txt", b"b" * 10)])
    sound = path.read_bytes()
    for start in (0, 1024):
        for bit in range(0, 512 * 8, 37):
            broken = bytearray(sound)
            broken[start + bit // 8] ^= 1 << bit % 8
            path.write_bytes(broken)
            with pytest.raises(TornTarError):
                members_of(path)


def test_a_claimed_size_beyond_the_file_is_refused(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    info.size = 2 << 30
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf() + b"x" * 512)
    with pytest.raises(TornTarError, match="inside 'a.jpg'"):
        members_of(path)


def test_compressed_files_are_named_as_such(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with path.open("ab") as file:
        file.write(b"\0" * 1024)
    with pytest.raises(TornTarError, match="compressed with gzip: unpack it .*--shard-order buffer"):
        members_of(path)


def header_of(name, size=0, kind=b"0", raw_size=None):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    if raw_size is not None:
        block[124:136] = raw_size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content):
    return content + bytes(-len(content) % 512)


def with_pax(records, *more):
    return padded(header_of("p", len(records), b"x") + records) + padded(header_of("a.txt", 2) + b"ok") + bytes(1024)


@pytest.mark.parametrize(
    "content, reason",
    [
        (with_pax(b"6 a=b\n" * 170_000), "pax header holds more than 10,000 records"),
        (with_pax(b"30 size=" + b"9" * 21 + b"\n"), "pax header holds no size"),
        (with_pax(b"9" * 5000 + b" size=1\n"), "pax header is broken"),
        (with_pax(b"0 a=b\n"), "pax header is broken"),
        (with_pax(b"2 a=b\n"), "pax header is broken"),
        (with_pax(b"-6 a=b\n"), "pax header is broken"),
        (with_pax(b"7 a=b\n"), "pax header is broken"),
        (with_pax(b"22 GNU.sparse.major=1\n"), "stored sparse"),
        (padded(header_of("L", 2 << 20, b"L") + b"n" * (2 << 20)) + bytes(1024), "extension headers up to byte 512"),
        (padded(header_of("L", 900_000, b"L") + b"n" * 900_000) * 2 + bytes(1024), "1,800,000 bytes for one member"),
        (header_of("a.txt", raw_size=b"\xff" * 12) + bytes(2048), "negative number"),
        (header_of("a.txt", raw_size=b"\x80" + b"\x7f" * 11) + bytes(2048), "inside 'a.txt'"),
        (header_of("\x1b[2Ja\n.txt", 1 << 20) + bytes(2048), r"inside '\\x1b\[2Ja\\n.txt'"),
        (header_of("S", 0, b"S") + bytes(2048), "stored sparse"),
    ],
)
def test_headers_made_to_stall_or_mislead_are_refused(tmp_path, content, reason):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(TornTarError, match=reason):
        members_of(path)


def test_the_work_for_pax_headers_grows_with_their_size_only(tmp_path):
    path = tmp_path / "a.tar"
    header = padded(header_of("p", 54_000, b"x") + b"6 a=b\n" * 9_000) + padded(header_of("a.txt", 2) + b"ok")
    path.write_bytes(header * 40 + bytes(1024))
    assert members_of(path) == [("a.txt", b"ok")] * 40


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_what_has_no_bytes_takes_none_whatever_size_it_names(tmp_path, kind):
    path = tmp_path / "a.tar"
    path.write_bytes(header_of("l.txt", 700, kind) + padded(header_of("a.txt", 2) + b"ok") + bytes(1024))
    assert members_of(path) == [("a.txt", b"ok")]


def test_long_link_targets_and_defaults_of_all_members_leave_the_next_name_alone(tmp_path):
    path = tmp_path / "a.tar"
    parts = [padded(header_of("L", 9, b"L") + b"real.txt\0"), padded(header_of("K", 5, b"K") + b"target")[:1024]]
    parts += [padded(header_of("g", 13, b"g") + b"13 path=zzzz\n"), padded(header_of("short", 2) + b"ok"), bytes(1024)]
    path.write_bytes(b"".join(parts))
    assert members_of(path) == [("real.txt", b"ok")]


def test_archives_joined_with_cat_give_the_first_and_name_the_second(tmp_path):
    one = write_tar(tmp_path / "a.tar", [("a.txt", b"a")]).read_bytes()
    path = tmp_path / "b.tar"
    path.write_bytes(one + one)
    with pytest.raises(TornTarError, match=f"second archive begins at byte {len(one)}"):
        members_of(path)
    path.write_bytes(one + b"\xff" * 512)
    assert members_of(path) == [("a.txt", b"a")]
