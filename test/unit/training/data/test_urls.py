import json
import os
import subprocess
import sys

import pytest

from open_clip.errors import ConfigError, DataError
from training.data.braces import expand_braces
from training.data.urls import expand_urls, get_dataset_size, local_path, require_shards


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("a.tar", ["a.tar"]),
        ("{000..002}.tar", ["000.tar", "001.tar", "002.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..6..3}", ["0", "3", "6"]),
        ("{a..c}", ["a", "b", "c"]),
        ("{train,val}_{0..1}", ["train_0", "train_1", "val_0", "val_1"]),
        ("{a,b{1..2}}", ["a", "b1", "b2"]),
        ("{only}", ["{only}"]),
        ("{}", ["{}"]),
        ("open{0..1", ["open{0..1"]),
    ],
)
def test_braces_stand_for_what_a_shell_makes_of_them(pattern, names):
    assert list(expand_braces(pattern)) == names


@pytest.mark.parametrize("pattern", ["{" * 100_000, "{a" * 50_000 + ".tar"])
def test_braces_that_are_never_closed_are_characters(pattern):
    assert list(expand_braces(pattern)) == [pattern]


@pytest.mark.parametrize("pattern", ["{a," * 2000 + "}" * 2000, "{a,b}" * 2000])
def test_braces_too_many_to_follow_are_refused(pattern):
    with pytest.raises(ConfigError, match="braces|more than"):
        expand_urls(pattern)


@pytest.mark.parametrize("pattern", ["{0..999999999999}.tar", "{0..9999}{0..9999}.tar", "{0.." + "9" * 5000 + "}.tar"])
def test_a_range_that_would_fill_the_memory_is_refused(pattern):
    with pytest.raises(ConfigError, match="more than 10,000,000 names"):
        list(expand_braces(pattern))


def test_sources_are_joined_and_each_shard_has_the_weight_of_its_source():
    assert expand_urls("a_{0..1}.tar::b.tar") == (["a_0.tar", "a_1.tar", "b.tar"], None)
    assert expand_urls("a_{0..1}.tar::b.tar", "1::0.5") == (["a_0.tar", "a_1.tar", "b.tar"], [1.0, 1.0, 0.5])
    assert expand_urls(["x{0..1}", "y"]) == (["x{0..1}", "y"], None)
    assert expand_urls(["x", "y"], [1, 2]) == (["x", "y"], [1, 2])


@pytest.mark.parametrize("weights", ["1", "1::2::3", "1::x", "1::-1", "0::0", "1::nan", "inf::1"])
def test_weights_that_do_not_fit_the_sources_are_refused(weights):
    with pytest.raises(ConfigError, match="one number for each of the 2 sources"):
        expand_urls("a.tar::b.tar", weights)


def test_a_variable_of_the_webdataset_library_is_filled_in(monkeypatch):
    monkeypatch.setenv("WDS_LAION", "/data/laion")
    assert expand_urls("${LAION}/{0..1}.tar")[0] == ["/data/laion/0.tar", "/data/laion/1.tar"]
    assert expand_urls("${UNKNOWN}/0.tar")[0] == ["${UNKNOWN}/0.tar"]


def test_sizes_stand_beside_the_shards(tmp_path):
    for name, sizes in (("one", {"0.tar": 3, "1.tar": 4}), ("two", {"0.tar": 10})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sizes.json").write_text(json.dumps(sizes))
    assert get_dataset_size(f"{tmp_path}/one/{{0..1}}.tar") == (7, 2)
    # The second source has a shard of the same name, with a count of its own.
    assert get_dataset_size(f"{tmp_path}/one/0.tar::{tmp_path}/two/0.tar") == (13, 2)
    with pytest.raises(DataError, match="no entry for 2.tar"):
        get_dataset_size(f"{tmp_path}/one/{{0..2}}.tar")


def test_a_length_file_stands_for_sizes(tmp_path):
    (tmp_path / "__len__").write_text("1_234\n")
    assert get_dataset_size(f"{tmp_path}/{{0..1}}.tar") == (1234, 2)
    (tmp_path / "__len__").write_text("__import__('os')")
    with pytest.raises(DataError, match="cannot be read as a number"):
        get_dataset_size(f"{tmp_path}/{{0..1}}.tar")


def test_without_such_files_the_size_is_not_known():
    assert get_dataset_size("/no/such/{000..009}_{0..9}.tar::/other.tar") == (None, 101)


@pytest.mark.parametrize("text", ["[]", "{", '{"0.tar": "x"}', "3"])
def test_a_broken_sizes_file_is_named(tmp_path, text):
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(DataError, match="sizes.json"):
        get_dataset_size(f"{tmp_path}/0.tar")


def test_missing_shards_are_named_with_a_count(tmp_path):
    (tmp_path / "0.tar").touch()
    require_shards([str(tmp_path / "0.tar"), f"file://{tmp_path}/0.tar", "s3://bucket/9.tar"])
    with pytest.raises(DataError, match=r"2 of 3 shards are not there: .*1\.tar, .*2\.tar"):
        require_shards([str(tmp_path / f"{number}.tar") for number in range(3)])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be shut out")
def test_a_folder_that_cannot_be_listed_is_named_with_the_reason(tmp_path):
    (tmp_path / "0.tar").touch()
    script = (
        "import os, sys; from training.data.urls import require_shards\n"
        # What is imported later lies where the other user may not look.
        "'-'.encode('unicode_escape'); os.setuid(65534)\n"
        "try: require_shards(sys.argv[1:])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    tmp_path.chmod(0o700)
    for parent in list(tmp_path.parents)[:-2]:
        parent.chmod(0o755)
    command = [sys.executable, "-c", script, str(tmp_path / "0.tar"), str(tmp_path / "a\n.tar")]
    shut = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "DataError 2 of 2 shards are not there" in shut.stdout
    assert "cannot be listed" in shut.stdout
    assert "Permission denied" in shut.stdout
    assert shut.stdout.count("\n") == 1
    # Who may not list a folder may still open what he can name.
    tmp_path.chmod(0o711)
    named = subprocess.run(command[:-1], capture_output=True, text=True, timeout=120)
    assert (named.stdout, named.stderr) == ("", "")


@pytest.mark.parametrize(
    "name, content",
    [
        ("sizes.json", b"[" * 100_000),
        ("sizes.json", b"[1]"),
        ("sizes.json", b'{"0.tar": -1}'),
        ("sizes.json", b'{"0.tar": 1e99}'),
        ("sizes.json", b'{"0.tar": true}'),
        ("sizes.json", b'{"0.tar": ' + b"9" * 5000 + b"}"),
        ("sizes.json", b'{"\\u001b[2J": "x"}'),
        ("sizes.json", b"\xff"),
        ("sizes.json", None),
        ("__len__", b"-1"),
        ("__len__", b"9" * 90),
        ("__len__", b"9" * 9000),
        ("__len__", b"\x1b[2J"),
        ("__len__", None),
    ],
)
def test_counts_beside_the_shards_that_are_none_are_refused_in_one_line(tmp_path, name, content):
    os.mkfifo(tmp_path / name) if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        get_dataset_size(str(tmp_path / "0.tar"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a\n\x1b[2J.tar", "a\0b.tar", "file:///nowhere/a%00.tar", "\udcff.tar", "x" * 5000])
def test_no_name_of_a_shard_breaks_the_message_that_it_is_missing(name):
    with pytest.raises(DataError, match="1 of 1 shards are not there") as caught:
        require_shards([name])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["file://[::1/a.tar", "file://[/a.tar"])
def test_a_malformed_address_is_refused(name):
    with pytest.raises(ConfigError, match="no address of a file"):
        require_shards([name])


def test_only_paths_lie_on_this_machine():
    assert local_path("a/b.tar") == "a/b.tar"
    assert local_path("file:///a/b%20c.tar") == "/a/b c.tar"
    assert local_path("https://host/a.tar") is None
    assert local_path("pipe:cat a.tar") is None
