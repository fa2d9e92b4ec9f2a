import logging

import pytest

from open_clip.errors import ConfigError
from training.params import check_rules, parse_args

TRAIN = ["--train-data", "pairs.csv"]


@pytest.mark.parametrize(
    "words,message",
    [
        (["--distill-model", "ViT-B-32"], "go together"),
        (["--distill-model", "ViT-B-32", "--distill-pretrained", "x.pt", "--siglip"], "contradict"),
        (["--coca-caption-loss-weight", "-1"], "finite number of at least 0"),
        (["--loss-tile-rows", "-1"], "whole number of at least 0"),
        (["--pretrained-ema"], "needs --pretrained FILE"),
        (["--opt", "sgd"], "timm/NAME"),
        (["--opt", "timm/lamb"], "needs --lr"),
        (["--opt", "timm/lamb", "--lr", "1", "--beta1", "0.9"], "both or neither"),
        (["--ema-decay", "1.0"], "above 0 and below 1"),
        (["--ema-decay", "0.9", "--fsdp"], "does not go with --fsdp"),
        (["--image-layer-decay", "0"], "--visual-layer-decay: '0' is not a finite number above 0 and at most 1"),
        (["--text-shapes", "packed", "--torchcompile"], "compiled anew"),
        (["--min-lr", "0.1"], "--min-lr 0.1 is above --lr 0.0005"),
        (["--text-shapes", "bucketed", "--fsdp"], "wait for them for ever"),
    ],
)
def test_flags_that_lack_something_or_contradict_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        check_rules(parse_args([*TRAIN, *words]))


@pytest.mark.parametrize(
    "words,message",
    [
        (["--loss-dist-impl", "shift"], "--loss-dist-impl has no effect without --siglip"),
        (["--momentum", "0.9"], "--momentum has no effect with --opt adamw"),
        (["--distill-own-normalization"], "no effect without --distill-model"),
        (["--min-lr", "1e-5", "--lr-scheduler", "const"], "--min-lr has no effect without --lr-scheduler cosine"),
        (["--torchcompile-mode", "max-autotune"], "no effect without --torchcompile"),
    ],
)
def test_flags_without_effect_are_named(words, message, caplog):
    with caplog.at_level(logging.WARNING):
        check_rules(parse_args([*TRAIN, *words]))
    assert message in caplog.text


def test_timms_optimizers_keep_their_own_settings():
    args = parse_args(["--opt", "timm/Lamb", "--lr", "0.1", "--model", "ViT-B-32"])
    assert (args.opt, args.lr, args.beta1, args.eps) == ("timm/lamb", 0.1, None, None)
    assert parse_args(["--visual-layer-decay", "0.7"]).image_layer_decay == 0.7


def lengths(words, settings, folder):
    path = folder / "config.yaml"
    path.write_text(settings)
    args = parse_args([*TRAIN, "--config", str(path), *words])
    return args.epochs, args.max_steps


def test_a_run_has_one_length_and_what_is_typed_wins(tmp_path):
    plain = parse_args(TRAIN)
    assert (plain.epochs, plain.max_steps, plain.warmup) == (32, None, 10000)
    assert lengths(["--max-steps", "7"], "epochs: 2", tmp_path) == (None, 7)
    assert lengths(["--epochs", "3"], "max_steps: 9", tmp_path) == (3, None)
    assert lengths([], "max_steps: 9\nepochs: null", tmp_path) == (None, 9)
    assert lengths(["--max-steps", "7"], "max_steps: 9", tmp_path) == (None, 7)
    for words, settings in ((["--epochs", "1", "--max-steps", "2"], ""), ([], "epochs: 1\nmax_steps: 2")):
        with pytest.raises(ConfigError, match="--epochs and --max-steps both say how long"):
            lengths(words, settings, tmp_path)


def test_a_share_of_warmup_takes_the_place_of_the_default_and_stands_beside_what_is_given():
    assert parse_args([*TRAIN, "--lr-warmup-share", "0.1"]).warmup == 0
    assert parse_args([*TRAIN, "--lr-warmup-share", "0.1", "--warmup", "5"]).warmup == 5
