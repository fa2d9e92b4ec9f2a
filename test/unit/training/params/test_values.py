"""Every flag answers every word with a value that a run can have, or with one line that names the flag."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_clip.errors import ConfigError
from training.params import RunParams, check_rules, make_parser, parse_args
from training.params.values import Number

HOSTILE = (
    *("0", "1", "-1", "-0.5", "2", "nan", "inf", "-inf", "1e400", "1e-400", "1e18", str(2**63), str(2**65)),
    *("", " ", "\t", "\n", "\x1b[31m", "a\rb", "a\0b", "\udcff", "\u0661\u0662", "½", "0x10", "1_0", "1e3", "True"),
    *("../..", "a/b", ".", "..", "/", "-", "--", "=", "a=", "=b", "a=b", "scale=5", "a=" + "(" * 3_000, "a={[]: 1}"),
    *("a=1j", "a=1e400", "a={1}", "a=b'c'", "9" * 5_000, "a=" + "9" * 5_000, "x" * 300, "y" * 100_000, "latest"),
)
ACTIONS = [action for action in make_parser()._actions if action.dest not in ("help", "config")]
TRAIN = ("--train-data", "a.csv", "--name", "run")


def is_usable(value):
    """Tell whether a value is of a kind that a saved configuration holds and a number in it is finite."""
    if isinstance(value, dict):
        return all(map(is_usable, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_usable, value))
    return value is None or isinstance(value, str | bool) or math.isfinite(value)


def refusal(words):
    """Parse flags and give the message they are refused with; None when a run can have them."""
    try:
        args = parse_args(words)
        check_rules(args)
        RunParams.from_namespace(args)
    except ConfigError as error:
        return str(error)
    assert all(map(is_usable, vars(args).values()))
    return None


def try_words(words):
    message = refusal(words)
    assert message is None or (message.replace("\n", "").isprintable() and len(message) < 1_000)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.dest)
def test_a_flag_takes_a_hostile_word_or_refuses_it(action):
    option = action.option_strings[0]
    if action.nargs == 0:
        words = [[option], [f"{option}=1"]]
    else:
        words = [[f"{option}={word}"] for word in HOSTILE]
        words += [[option], [option, "--"], [option, "", " "], [option, "1", "2", "3", "4"]]
    for extra in words:
        try_words([*TRAIN, *extra])


@given(st.sampled_from(ACTIONS), st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_a_flag_takes_any_word_or_refuses_it(action, word):
    try_words([*TRAIN, f"{action.option_strings[0]}={word}"])


def test_every_number_has_bounds_of_its_own_and_its_default_lies_within_them():
    for action in ACTIONS:
        assert action.type not in (int, float, str), f"{action.dest} says nothing of its values; see values.py"
        if isinstance(action.type, Number):
            assert action.default is None or action.type(str(action.default)) == action.default


@pytest.mark.parametrize(
    "words,message",
    [
        (["--force-image-size", "0"], "--force-image-size: '0' is not a whole number of at least 1"),
        (["--force-image-size", "8", "8", "8"], "takes one value, or height and width; it has 3"),
        (["--force-context-length", "-3"], "--force-context-length: '-3' is not"),
        (["--lock-image-unlocked-groups", "-1"], "'-1' is not a whole number of at least 0"),
        (["--image-mean", "0.5", "0.5"], "--image-mean takes one value, or three"),
        (["--image-std", "0", "1", "1"], "--image-std: '0' is not"),
        (["--seed", str(2**65)], "is not a whole number of at least 0 and at most 4294967295"),
        (["--name", "a/b"], "'a/b' is not a plain folder name"),
        (["--name", "a\x1b[31m"], r"'a\\x1b\[31m' is not text"),
        (["--logs-dir", ""], "--logs-dir/--logs: '' is not a path"),
        (["--val-data", "a\nb"], r"--val-data: 'a\\nb' is not text"),
        (["--csv-img-key", "\u202e"], "--csv-img-key: .* is not text"),
        (["--csv-separator", ""], "--csv-separator: '' cannot separate"),
        (["--aug-cfg", "scale"], "--aug-cfg: 'scale' is not of the form key=value"),
        (["--opt-kwargs", "a=1e400"], "a=inf is no finite number"),
        (["--dist-url", "somewhere"], "--dist-url 'somewhere': it can be env://"),
        (["--coca-caption-loss-weight", "0", "--coca-contrastive-loss-weight", "0"], "leave no loss"),
        (["--lr", "1" * 5_000], r"--lr: '1{77}\.\.\.' is not"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_flag_and_what_it_can_be(words, message):
    with pytest.raises(ConfigError, match=message):
        check_rules(parse_args([*TRAIN, *words]))


def test_the_special_values_of_upstream_still_mean_what_they_did():
    words = ["--val-frequency", "0", "--save-frequency", "0", "--zeroshot-frequency", "0", "--workers", "0"]
    words += ["--warmup", "0", "--wd", "0", "--lr", "0", "--pretrained", "", "--report-to", "", "--logs-dir", "None"]
    words += ["--coca-contrastive-loss-weight", "0", "--csv-separator", "\t", "--dist-url", "tcp://127.0.0.1:6100"]
    args = parse_args([*TRAIN, *words])
    check_rules(args)
    assert (args.val_frequency, args.warmup, args.lr, args.pretrained, args.logs_dir) == (0, 0, 0.0, "", "None")


def test_the_name_of_a_folder_may_be_in_any_script():
    name = "第一次\u3000训练 é"
    assert parse_args(["--name", name]).name == name


@pytest.mark.parametrize("separator", ["\x01", "，", "｜", "\t", "\\t"])
def test_a_separator_may_be_any_character_but_those_that_steer_a_terminal(separator):
    assert parse_args(["--csv-separator", separator]).csv_separator == separator
