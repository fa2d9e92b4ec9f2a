"""Files of settings that are broken, hostile or odd: a value of the flag's type, or one line with file and key."""

import contextlib
import os
import resource
import time

import pytest

from open_clip.errors import ConfigError
from training.params import make_parser, parse_args

BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else '1'}]\n" for n in range(12))
HOSTILE = {
    "alias bomb": BOMB,
    "anchor": "name: &x a\nmodel: *x",
    "merge": "base: &b {lr: 1}\n<<: *b",
    "merge without alias": "<<: {lr: 1}",
    "a date for a number": "lr: 2024-13-45",
    "a date with a time": "lr: 2024-01-01T25:61:61",
    "a tag that lies": "batch_size: !!int abc",
    "a tag that lies about nothing": "batch_size: !!int ''",
    "a tag that lies about truth": "siglip: !!bool maybe",
    "binary": "name: !!binary '####'",
    "a set": "aug_cfg: !!set {a, b}",
    "omap": "aug_cfg: !!omap [a: 1]",
    "python": "name: !!python/name:os.system",
    "brackets": "lr: " + "[" * 3_000,
    "braces": "lr: " + "{" * 3_000,
    "blocks": "".join("  " * depth + "a:\n" for depth in range(500)),
    "a list": "lr: [1, 2]",
    "a mapping": "lr: {a: 1}",
    "a mapping for a folder": "logs_dir: {}",
    "nothing for a number": "seed: null",
    "nothing at all for a number": "seed:",
    "nothing for a switch": "siglip: ~",
    "nothing in a list": "force_image_size: []",
    "a list in a list": "force_image_size: [[1]]",
    "a number for a switch": "siglip: 1",
    "a switch for a number": "epochs: yes",
    "not a number": "lr: .nan",
    "infinite": "wd: .inf",
    "too long a number": "seed: " + "9" * 5_000,
    "too long a number in hex": "seed: 0x" + "f" * 5_000,
    "too long a path": "logs_dir: " + "a" * 5_000,
    "too long a name": "name: " + "a" * 5_000,
    "twice": "lr: 1\nlr: 2",
    "twice by its other names": "logs: a\nlogs-dir: b",
    "a key of another type": "[1, 2]: 3",
    "a key without end": "k" * 100_000 + ": 1",
    "an escape in a key": '"a\\e[31m": 1',
    "an escape in a value": 'batch_size: "\\e[31m"',
    "two documents": "lr: 1\n---\nlr: 2",
    "a tab": "lr:\t1\n\twd: 2",
    "a list of all": "[" + "1, " * 100_000 + "1]",
    "a number": "3",
    "too many values": "force_image_size: [" + "1, " * 100_000 + "1]",
    "pairs of another type": "aug_cfg: 3",
    "pairs in a list": "aug_cfg: [[scale, 1]]",
    "pairs that are too deep": "aug_cfg: {scale: [[[[[1]]]]]}",
    "a pair twice": "aug_cfg: {scale: 1, scale: 2}",
    "pairs with a number for a name": "aug_cfg: {1: 2}",
    "a pair of no kind": "aug_cfg: {scale: .inf}",
    "an escape that is none": 'name: "\\q"',
    "a directive": "%YAML 9.9\n---\nlr: 1",
    "a NUL": "name: a\0b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as caught:
        parse_args(["--config", str(path)])
    message = str(caught.value)
    assert "run.yaml" in message
    assert message.isprintable()
    assert len(message) < 1_000
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_file_that_is_not_text_is_named_with_the_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"lr: 1\nname: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"run\.yaml, line 2: this is not UTF-8 text"):
        parse_args(["--config", str(path)])


def test_what_is_no_file_of_a_reasonable_size_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("pipe", "not a plain file"),
        (".", "Is a directory"),
        ("huge", "larger than 262,144 bytes"),
        ("loop", "symbolic links"),
        ("x" * 5_000, "File name too long"),
        ("a\0b", "null byte"),
        ("absent", "No such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_args(["--config", f"{tmp_path}/{name}"])


def test_a_setting_is_read_as_its_flag_reads_it(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "\ufeffname: 007\nlr: 1e-3\nwd: 1_0.5\nbatch-size: 0x10\nsiglip: yes\nimage_mean: [0.5, .5, 5e-1]\n"
        "force_image_size: 96\nval_data: null\npretrained: ~\nloss_scale: 512\nwd_exclude: []\n"
        "aug_cfg: {scale: '(0.5, 1.0)', use_timm: false, color_jitter: [0.1, 0.2, 0.3, 0.0]}\n"
        "opt_kwargs: amsgrad=True\n",
        encoding="utf-8",
    )
    args = parse_args(["--conf", str(path)])
    assert (args.name, args.lr, args.wd, args.batch_size, args.siglip) == ("007", 1e-3, 10.5, 16, True)
    assert (args.image_mean, args.force_image_size, args.val_data, args.pretrained) == ([0.5] * 3, [96], None, "")
    assert args.aug_cfg == {"scale": (0.5, 1.0), "use_timm": False, "color_jitter": [0.1, 0.2, 0.3, 0.0]}
    assert (args.opt_kwargs, args.loss_scale, args.wd_exclude) == ({"amsgrad": True}, "512", [])


@pytest.mark.parametrize("action", make_parser()._actions, ids=lambda action: action.dest)
def test_no_setting_of_any_flag_ends_in_another_error(tmp_path, action):
    path = tmp_path / "run.yaml"
    for value in ("{}", "[1, a]", "{a: {b: 1}}", "~", "2024-01-01", "1e400", "''"):
        path.write_text(f"{action.dest}: {value}\n", encoding="utf-8")
        with contextlib.suppress(ConfigError):
            parse_args(["--config", str(path)])
