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
    with pytest.raises(TornTarError, match="compressed: unpack it"):
        members_of(path)
