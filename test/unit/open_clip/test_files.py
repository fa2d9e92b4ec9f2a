"""Files are written whole or not at all, and never through a link."""

import os

import pytest

from open_clip.files import TEMPORARY, new_file, open_to_append, write_whole


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "settings.txt"
    write_whole(target, "old")

    def write_half():
        with new_file(target) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["settings.txt"]


@pytest.mark.parametrize("name", ["target", "temporary"])
def test_a_planted_link_is_replaced_and_what_it_points_at_stays(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target = tmp_path / "run" / "params.txt"
    target.parent.mkdir()
    planted = target if name == "target" else target.with_name(f"{TEMPORARY}params.txt-{os.getpid()}")
    planted.symlink_to(victim)
    write_whole(target, "new")
    assert target.read_text() == "new"
    assert not target.is_symlink()
    assert victim.read_text() == "precious"
    assert os.listdir(target.parent) == ["params.txt"]


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_ones_file_is_not(tmp_path):
    target = tmp_path / "index [1].npz"
    go_on, going = os.pipe(), os.pipe()
    living = os.fork()
    if not living:
        # Without its other end, the pipe ends with the test whatever becomes of that.
        os.close(go_on[1])
        try:
            with new_file(target) as file:
                file.write(b"theirs")
                file.flush()
                os.write(going[1], b"x")
                os.read(go_on[0], 1)
            os._exit(0)
        finally:
            os._exit(1)
    os.read(going[0], 1)
    killed = os.fork()
    if not killed:
        with new_file(target) as file:
            file.write(b"half")
            file.flush()
            os._exit(9)
    os.waitpid(killed, 0)
    others = [f"{TEMPORARY}other-7", f"{TEMPORARY}index [1].npz-spent", f"{TEMPORARY}index 1.npz-7"]
    for name in others:
        (tmp_path / name).touch()
    assert (tmp_path / f"{TEMPORARY}{target.name}-{killed}").read_bytes() == b"half"
    write_whole(target, "ours")
    assert {*os.listdir(tmp_path)} == {target.name, f"{TEMPORARY}{target.name}-{living}", *others}
    os.write(go_on[1], b"x")
    assert os.waitpid(living, 0)[1] == 0
    assert target.read_bytes() == b"theirs"
    assert {*os.listdir(tmp_path)} == {target.name, *others}


def test_lone_surrogates_are_written_as_escapes(tmp_path):
    write_whole(tmp_path / "a", "caf\u00e9 \udcff")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "caf\u00e9 \\udcff"


def test_appending_adds_to_the_end(tmp_path):
    for word in (b"a\n", b"b\n"):
        with open_to_append(tmp_path / "log") as file:
            file.write(word)
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"


def test_appending_follows_no_link_and_waits_at_no_pipe(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=name):
            open_to_append(tmp_path / name)
    assert victim.read_text() == "precious"
