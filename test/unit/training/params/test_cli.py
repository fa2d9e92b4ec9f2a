import argparse

import pytest

from open_clip.errors import ConfigError
from training.params import RunParams, check_rules, cli, make_parser, parse_args, write_settings


def test_flags_keep_upstreams_names_and_prefix_abbreviations():
    args = parse_args(["--train-data", "a.csv", "--batch", "8", "--warm", "3", "--model", "ViT-B-32"])
    assert (args.train_data, args.batch_size, args.warmup) == ("a.csv", 8, 3)


def test_optimizer_defaults_follow_the_model_name():
    vit = parse_args(["--model", "ViT-B-32"])
    resnet = parse_args(["--model", "RN50"])
    assert (vit.lr, vit.beta1, vit.beta2, vit.eps) == (5e-4, 0.9, 0.98, 1e-6)
    assert (resnet.lr, resnet.beta1, resnet.beta2, resnet.eps) == (5e-4, 0.9, 0.999, 1e-8)
    assert parse_args(["--model", "ViT-B-32", "--lr", "1e-3"]).lr == 1e-3


def test_unknown_flag_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"unknown flag --trian-data\. Did you mean --train-data"):
        parse_args(["--trian-data", "x"])


def test_a_stray_word_is_named():
    with pytest.raises(ConfigError, match="'words' stands on the command line without a flag"):
        parse_args(["--name", "two", "words"])


def test_logs_is_the_second_name_of_logs_dir():
    assert parse_args(["--logs", "x"]).logs_dir == parse_args(["--logs-dir", "x"]).logs_dir == "x"


def test_aug_cfg_reads_literals_and_strings():
    args = parse_args(["--aug-cfg", "scale=(0.5, 1.0)", "use_timm=True", "interpolation=random"])
    assert args.aug_cfg == {"scale": (0.5, 1.0), "use_timm": True, "interpolation": "random"}


def test_config_file_sets_defaults_and_flags_win(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("batch-size: 16\nlr: 1e-3\nlocal_loss: true\nforce_image_size: 96\nlogs: out\n")
    args = parse_args(["--config", str(config), "--batch-size", "4"])
    assert (args.batch_size, args.lr, args.local_loss, args.force_image_size) == (4, 1e-3, True, [96])
    assert args.logs_dir == "out"


@pytest.mark.parametrize(
    "text,message",
    [
        ("batch_sice: 3", "unknown key 'batch_sice'. Did you mean batch_size"),
        ("batch_size: many", "line 1: batch_size: 'many' is not a whole number of at least 1"),
        ("precision: fp8", "line 1: precision: 'fp8' is none of amp"),
        ("local_loss: 3", "local_loss: 3 is neither true nor false"),
        ("- a", "holds a list; it must be a mapping"),
        ("a: [", "not valid YAML"),
        ("name: !!python/object/apply:os.system ['true']", "name: .* is a list or mapping|the tag"),
    ],
)
def test_bad_config_file_is_refused_with_key_and_file(tmp_path, text, message):
    config = tmp_path / "run.yaml"
    config.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        parse_args(["--config", str(config)])
    assert "run.yaml" in str(caught.value)


def test_missing_config_file_is_named():
    with pytest.raises(ConfigError, match="absent.yaml: No such file"):
        parse_args(["--config", "absent.yaml"])


def test_saved_settings_alone_repeat_the_flags(tmp_path):
    words = ["--train-data", "a.csv", "--model", "ViT-B-32", "--aug-cfg", "scale=(0.5, 1.0)", "--csv-separator", ","]
    args = parse_args(words)
    write_settings(args, tmp_path / "config.yaml")
    again = vars(parse_args(["--config", str(tmp_path / "config.yaml")]))
    again["aug_cfg"] = {key: tuple(value) for key, value in again["aug_cfg"].items()}
    assert {**again, "config": None} == vars(args)


def test_every_flag_is_in_exactly_one_group_and_has_help():
    parser = make_parser()
    actions = [a for a in parser._actions if a.dest not in ("help", "config")]
    params = RunParams.from_namespace(parser.parse_args([]))
    groups = [group for group in vars(params).values() if group is not None]
    assert sum(len(vars(group)) for group in groups) == len(actions)
    assert all(isinstance(a.help, str) and len(a.help) > 10 for a in actions)
    assert max(len(vars(group)) for group in groups) <= 15


@pytest.mark.parametrize(
    "words,message",
    [
        ([], "nothing to do"),
        (["--batch-size", "0"], "--batch-size: '0' is not a whole number of at least 1"),
        (["--lr", "nan"], "--lr: 'nan' is not a finite number"),
        (["--grad-clip-norm", "-1"], "--grad-clip-norm: '-1' is not a finite number above 0"),
        (["--bad-sample-budget", "2"], "--bad-sample-budget: '2' is not"),
        (["--lr-scheduler", "const-cooldown"], "needs --epochs-cooldown"),
        (["--resume", "latest"], "--resume latest needs --name"),
        (["--resume", "latest", "--name", "a", "--logs-dir", "None"], "keeps none"),
        (["--loss-scale", "big"], "--loss-scale: 'big' is neither"),
        (["--report-to", "wandb"], "--report-to 'wandb': there is only tensorboard"),
    ],
)
def test_contradicting_flags_are_refused(words, message):
    data = ["--train-data", "a.csv"] if words else []
    with pytest.raises(ConfigError, match=message):
        check_rules(parse_args([*data, *words]))


def test_flags_without_effect_are_warned_of(caplog):
    check_rules(parse_args(["--train-data", "a.csv", "--lock-image-unlocked-groups", "2", "--epochs-cooldown", "1"]))
    assert "--lock-image-unlocked-groups has no effect" in caplog.text
    assert "--epochs-cooldown has no effect" in caplog.text


def test_a_wrong_value_is_one_line_with_the_flag():
    with pytest.raises(ConfigError, match=r"^--batch-size: 'many' is not a whole number .*\. `--help`") as caught:
        parse_args(["--batch-size", "many"])
    assert caught.value.exit_status == 2
    assert isinstance(parse_args([]), argparse.Namespace)


def test_a_flag_of_upstream_that_is_not_there_yet_is_called_so():
    with pytest.raises(ConfigError, match="upstream's --use-bnb-linear is not there yet"):
        parse_args(["--use-bnb-linear"])
    known = {option for action in make_parser()._actions for option in action.option_strings}
    assert not known & cli._NOT_THERE_YET


@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_starts_with_a_short_usage_and_the_groups_a_new_user_needs(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = make_parser().format_help().splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles[1:5] == ["Data:", "Model and weights:", "Optimizer:", "Schedule:"]
    # "options" comes with every parser; the flags of the recipe itself are none here.
    assert len(titles) == 1 + len(vars(RunParams.from_namespace(parse_args([])))) - 1
    assert lines.index("Data:") < 15
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if line.endswith("-")]
    for flag in ("--train-data", "--fsdp-checkpoint", "--lock-image-unlocked-groups"):
        assert any(line.strip().startswith(flag) for line in lines)


def test_the_order_of_the_help_is_not_that_of_the_declared_groups():
    parser = make_parser()
    declared = [group.title for group in parser._action_groups]
    parser.format_help()
    assert sorted(filter(None, declared)) == sorted(filter(None, (group.title for group in parser._action_groups)))
    assert [group.title for group in make_parser()._action_groups] == declared


def test_without_flags_two_lines_say_what_to_give():
    with pytest.raises(ConfigError) as caught:
        check_rules(parse_args([]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "--train-data FILE" in lines[0]
    assert "python -m training.main --train-data" in lines[1]


@pytest.mark.parametrize(
    "words", [["--precision", "\x1b[31mx"], ["--\x1b[2J"], ["\x1b]0;x\x07"], ["--lr", "\x1b[1m\nfake line"]]
)
def test_a_wrong_word_cannot_steer_the_terminal(words):
    with pytest.raises(ConfigError) as caught:
        parse_args(words)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "flag", ["--train-data", "--csv-img-key", "--model", "--name", "--resume", "--logs-dir", "--opt"]
)
@pytest.mark.parametrize("value", ["a\n2026-12-01 | INFO | forged", "a\x1b[2J", "a\rb", "a\u2028b"])
def test_a_value_that_could_forge_a_log_line_is_refused(flag, value):
    with pytest.raises(ConfigError, match=flag) as caught:
        parse_args([flag, value])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "word, message",
    [
        ("\u2013\u2013epochs", "type the flag with two hyphens"),
        ("\u2014lr", "type the flag with two hyphens"),
        ("--train-data a.csv", "put no quotes around a flag together with its value"),
    ],
)
def test_words_that_a_page_or_a_quote_spoiled_are_explained(word, message):
    with pytest.raises(ConfigError, match=message):
        parse_args([word])


def test_any_separator_and_names_of_any_script_are_taken():
    assert parse_args(["--csv-separator", "\x01"]).csv_separator == "\x01"
    assert parse_args(["--train-data", "caf\xe9 \u56fe.csv"]).train_data == "caf\xe9 \u56fe.csv"
