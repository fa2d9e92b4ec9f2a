from pathlib import Path

import pytest

import open_clip
from open_clip.errors import ConfigError, DataError
from open_clip.factory.source import find_source
from shard_sets import write_shards
from training.dialects.nxtp import Datasets
from training.dialects.nxtp.flags import Start, evaluation_words, training_words
from training.dialects.nxtp.settings import read_config
from training.params import RunParams, parse_args

CONFIGS = Path(__file__).resolve().parents[5] / "recipes" / "nxtp" / "src" / "configs"
DATASETS = Datasets(
    cc3m={"length": 30, "root": "cc3m/cc3m_train"},
    sbu={"length": 20, "root": "sbu"},
    coco={"length": 50, "root": "coco"},
    coco_valid={"length": 5, "root": "coco/valid"},
)


@pytest.fixture
def root(tmp_path):
    write_shards(tmp_path / "cc3m" / "cc3m_train", [1, 1, 1])
    for name in ("sbu", "coco", "coco/valid"):
        write_shards(tmp_path / name, [1])
    return tmp_path


def words_of(root, *, name="g3m", say=training_words, start=None, **fields):
    values = read_config(str(CONFIGS / f"config_{name}.py")).values()
    words = say(values | {"data_root": str(root)} | fields, start or Start(DATASETS))
    return words[0] if say is training_words else words


def after(flag, words):
    return words[words.index(flag) + 1]


def test_g3m_is_the_published_training(root):
    words = words_of(root)
    expected = {
        "--task": "nxtp",
        "--model": "nxtp-ViT-L-14-7B",
        "--precision": "amp",
        "--batch-size": "16",
        "--accum-freq": "1",
        "--epochs": "3",
        "--lr": "1e-05",
        "--min-lr": "0.0",
        "--wd": "0.1",
        "--beta1": "0.9",
        "--beta2": "0.98",
        "--eps": "1e-6",
        "--warmup": "2000",
        "--lr-warmup-share": "0.002",
        "--seed": "42",
        "--bad-sample-budget": "0.1",
        "--name": "g3m",
        "--save-every-n-steps": "20000",
        "--log-every-n-steps": "100",
        "--lock-image-unlocked-groups": "6",
        "--train-tokens": "added",
        "--label-prompts": "drawn",
        "--label-loss-weight": "1.0",
        "--caption-loss-weight": "0.0",
        "--decoder-weights": "checkpoints/llama-2-7b",
        "--label-tokenizer": "checkpoints/llama-2-7b/tokenizer.model",
        "--image-weights": "checkpoints/clip/ViT-L-14.pt",
    }
    assert {flag: after(flag, words) for flag in expected} == expected
    shards = f"{root}/cc3m/cc3m_train/{{00000..00002}}.tar::{root}/sbu/00000.tar::{root}/coco/00000.tar"
    assert after("--train-data", words) == shards
    # What the model has already, no clipping, no compiling, no resuming.
    absent = {"--force-image-size", "--force-context-length", "--grad-clip-norm", "--torchcompile", "--resume"}
    assert not absent & set(words)


def test_the_trainer_takes_every_word(root):
    params = RunParams.from_namespace(parse_args(words_of(root)))
    assert (params.optim.lr, params.optim.wd, params.schedule.lr_warmup_share) == (1e-5, 0.1, 0.002)
    evaluated = parse_args(words_of(root, say=evaluation_words, eval_ckpt_path="a.pt", label_encoder="folder"))
    assert (evaluated.pretrained, evaluated.topk, evaluated.label_encoder) == ("a.pt", 10, "folder")


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"grad_clip": 1.0}, ["--grad-clip-norm", "1.0"]),
        ({"compile": True}, ["--torchcompile"]),
        ({"resume": True}, ["--resume", "latest"]),
        ({"resume": True, "resume_ckpt_path": "a/b.pt"}, ["--resume", "a/b.pt"]),
        ({"parallel_mode": "fsdp"}, ["--fsdp"]),
        ({"input_size": 336}, ["--force-image-size", "336"]),
        ({"max_seq_len": 640}, ["--force-context-length", "640"]),
        ({"force_to_use_fp16": False}, ["--precision", "amp_bf16"]),
        ({"dtype": "bfloat16", "force_to_use_fp16": False}, ["--precision", "amp_bf16"]),
        ({"dtype": "float32", "force_to_use_fp16": False}, ["--precision", "fp32"]),
        ({"clip_dir": "a/mine.safetensors"}, ["--image-weights", "a/mine.safetensors"]),
        ({"skip_extract_nouns": True}, ["--label-column", "text"]),
        ({"loss_on_prompt": True}, ["--loss-on-prompt"]),
        ({"enable_prompt_augmentation": False}, ["--label-prompts", "one"]),
        ({"special_tokens_to_train": ()}, ["--train-tokens", "none"]),
        ({"partial_train_lang_tok_embeddings": False}, ["--train-tokens", "all"]),
        ({"recipe": "mine.py:Mine"}, ["--task", "mine.py:Mine"]),
    ],
)
def test_a_field_becomes_its_flag(root, fields, expected):
    words = words_of(root, **fields)
    assert " ".join(expected) in " ".join(words)


def test_a_start_from_scratch_has_no_weights_and_no_frozen_layers_where_none_are_asked_for(root):
    words = words_of(root, from_scratch=True, train_image_blocks=-1)
    assert not {"--decoder-weights", "--image-weights", "--lock-image"} & set(words)


def test_checkpoints_are_spread_over_the_run_where_no_interval_is_given(root):
    # 100,000 pairs in 2 processes, 16 rows each, 2 batches a step: 1,562 steps an epoch.
    start = Start(DATASETS, world_size=2, num_pairs=100_000)
    words = words_of(root, start=start, ckpt_save_interval=-1, gradient_accumulation_steps=2)
    assert after("--save-every-n-steps", words) == str(3 * 1562 // 10)
    assert "--save-every-n-steps" not in words_of(root, ckpt_save_interval=-1, ckpt_save_num=0)


def described(root, words):
    model = after("--model", words)
    assert model.startswith(f"local-dir:{root}/cache/models/")
    return find_source(model, None, load_weights=False).model_cfg


def test_a_decoder_is_cut_where_the_config_says(root):
    words = words_of(root, cache_root=f"{root}/cache", shave_language_decoder_at=1)
    cfg = described(root, words)
    assert cfg["decoder_cfg"]["layers"] == 1
    assert cfg["vision_cfg"] == find_source("nxtp-ViT-L-14-7B", None, load_weights=False).model_cfg["vision_cfg"]
    assert words == words_of(root, cache_root=f"{root}/cache", shave_language_decoder_at=1)
    every = described(root, words_of(root, cache_root=f"{root}/cache", shave_language_decoder_at=-1))
    assert every["decoder_cfg"]["layers"] == 32
    for blocks in (0, 33):
        with pytest.raises(ConfigError, match=f"shave_language_decoder_at is {blocks}.* 1 to 32"):
            words_of(root, shave_language_decoder_at=blocks)


@pytest.mark.parametrize("eye, quick_gelu", [("ViT-B/32", True), ("ViT-B-32", False), ("ViT-B-32-quickgelu", True)])
def test_any_vit_may_be_the_eye(root, eye, quick_gelu):
    cfg = described(root, words_of(root, cache_root=f"{root}/cache", clip_model=eye))
    assert (cfg["vision_cfg"]["patch_size"], cfg["vision_cfg"]["width"], cfg["quick_gelu"]) == (32, 768, quick_gelu)
    assert cfg["decoder_cfg"]["width"] == 4096


def test_a_described_model_can_be_built(root):
    fields = {"clip_model": "nxtp-tiny", "shave_language_decoder_at": 1, "decouple_label_tok_embeds": False}
    words = words_of(root, cache_root=f"{root}/cache", input_size=32, max_seq_len=128, **fields)
    model = open_clip.create_model(after("--model", words), load_weights=False)
    assert len(model.decoder.layer_groups()) < len(open_clip.create_model("nxtp-tiny").decoder.layer_groups())
    assert not described(root, words)["label_cfg"]["separate_labels"]


def test_a_token_that_the_model_lacks_is_refused(root):
    with pytest.raises(ConfigError, match="special_tokens names <.video.>, which the model .* it has <.image.>"):
        words_of(root, special_tokens=("<|video|>",))


def test_a_model_that_is_named_itself_keeps_all_its_blocks(root):
    assert after("--model", words_of(root, clip_model="nxtp-tiny", shave_language_decoder_at=-1)) == "nxtp-tiny"


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"clip_model": "ViT-L/15"}, "Did you mean ViT-L-1"),
        ({"llama_model": "7C"}, "Did you mean nxtp-ViT-L-14-7B"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"parallel_mode": "dpp"}, "Did you mean ddp or fsdp"),
        ({"data_name": ()}, "data_name is empty"),
        ({"data_name": ("cc4m",)}, "Did you mean cc3m"),
    ],
)
def test_a_value_without_a_counterpart_is_refused(root, fields, says):
    with pytest.raises(ConfigError, match=says):
        words_of(root, **fields)


def test_a_data_set_that_is_not_there_is_refused(root):
    with pytest.raises(DataError, match="data set coco: "):
        words_of(root / "elsewhere", data_name=("coco",))


def test_an_evaluation_names_its_results_by_what_they_are_of(root):
    words = words_of(root, say=evaluation_words, eval_ckpt_path="logs/g3m/epoch_3.pt", eval_topk=5)
    assert after("--val-data", words) == f"{root}/coco/valid/00000.tar"
    assert after("--pretrained", words) == "logs/g3m/epoch_3.pt"
    assert after("--name", words) == "g3m-eval-coco_valid-epoch_3-one_shot-prob-top5"
    assert (after("--topk", words), after("--label-ranking", words)) == ("5", "prob")
    assert "--train-data" not in words
    again = words_of(root, say=evaluation_words, start=Start(DATASETS, moment="20260101-120000"), eval_ckpt_path="a.pt")
    assert after("--name", again) == "g3m-eval-coco_valid-a-one_shot-prob-top10-20260101-120000"


def test_an_evaluation_without_a_checkpoint_is_refused(root):
    with pytest.raises(ConfigError, match="eval_ckpt_path is empty"):
        words_of(root, say=evaluation_words)


def test_fields_that_no_flag_was_made_of_are_told(root):
    values = read_config(str(CONFIGS / "config_g3m.py")).values() | {"data_root": str(root)}
    _, unread = training_words(values, Start(DATASETS))
    assert {"pin_mem", "beam_size", "penalty"} <= unread
    assert not {"lr", "special_tokens", "tokenizer_path"} & unread
