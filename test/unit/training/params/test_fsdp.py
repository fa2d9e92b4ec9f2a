import pytest

from open_clip.errors import ConfigError
from training.params import check_rules, parse_args

TRAIN = ["--train-data", "a.csv", "--model", "ViT-B-32"]


@pytest.mark.parametrize(
    "words,said",
    [
        (["--fsdp", "--precision", "fp16"], "amp_bf16"),
        (["--fsdp", "--precision", "apex_o2"], "amp_bf16"),
        (["--fsdp", "--fsdp-checkpoint", "sharded", "--save-most-recent"], "--keep-checkpoints"),
    ],
)
def test_flags_that_do_not_go_with_fsdp_are_refused_with_the_way_out(words, said):
    with pytest.raises(ConfigError, match=said):
        check_rules(parse_args([*TRAIN, *words]))


@pytest.mark.parametrize(
    "words,said",
    [
        (["--fsdp-offload-cpu"], "--fsdp-offload-cpu has no effect without --fsdp"),
        (["--fsdp-checkpoint", "sharded"], "--fsdp-checkpoint has no effect without --fsdp"),
        (["--fsdp", "--ddp-static-graph"], "--ddp-static-graph has no effect with --fsdp"),
    ],
)
def test_flags_without_effect_are_named(words, said, caplog):
    check_rules(parse_args([*TRAIN, *words]))
    assert said in caplog.text
