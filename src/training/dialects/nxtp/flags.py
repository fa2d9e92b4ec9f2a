"""What each field of a config file is in the trainer's flags; fields that have no counterpart are named."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, cut_list, printable, suggest_nearest
from open_clip.factory.names import LOCAL_DIR_SCHEME, list_models
from open_clip.factory.source import find_source
from open_clip.files import write_whole
from training.data.source import TEXT
from training.dialects.nxtp.datasets import Datasets, list_shards, spell_shards
from training.dialects.nxtp.settings import Fields, Value

# NXTP computes float16 as bfloat16 where the device has it, unless told not to.
_PRECISIONS = {
    ("float16", True): "amp",
    ("float16", False): "amp_bf16",
    ("bfloat16", False): "amp_bf16",
    ("float32", False): "fp32",
}


# Blocks of a decoder that is not cut, by what llama_model calls it.
_WHOLE_DECODERS = {"7B": 32}


@dataclass(frozen=True)
class Start:
    """What one start of a run knows beside its config.

    Attributes:
        datasets: What ``data_name`` may name.
        world_size: Number of processes.
        num_pairs: Pairs of the training data.
        moment: When it is, for the name of an evaluation, which may be made again.
    """

    datasets: Datasets
    world_size: int = 1
    num_pairs: int = 0
    moment: str = ""


def training_words(values: Mapping[str, Value], start: Start) -> tuple[list[str], set[str]]:
    """Say a config in the flags of a training run.

    Returns:
        The words of ``python -m training.main``, and the names of fields that none of them was made from.

    Raises:
        ConfigError: A field has a value that the trainer has no counterpart of.
        DataError: A data set is not there.
    """
    read = Fields(values)
    names = read.texts("data_name")
    if not names:
        raise ConfigError("data_name is empty; name data sets of _DATASETS_META (loader.py).")
    root = Path(read.text("data_root"))
    shards = [spell_shards(list_shards(name, root / start.datasets.find(name)["root"])) for name in names]
    words = [
        *_common(read),
        *("--train-data", "::".join(shards)),
        *("--logs-dir", read.text("ckpt_dir"), "--name", read.text("exp_code")),
        *_optimizer(read),
        *_saves(read, start),
        *_start_weights(read),
        *_trained_parts(read),
    ]
    return words, read.unread


def evaluation_words(values: Mapping[str, Value], start: Start) -> list[str]:
    """Say a config in the flags of an evaluation of ``eval_ckpt_path`` on ``eval_data_name``; raises as above."""
    read = Fields(values)
    name, checkpoint = read.text("eval_data_name"), read.text("eval_ckpt_path")
    if not checkpoint:
        raise ConfigError("eval_ckpt_path is empty; name the checkpoint to evaluate: eval_ckpt_path=logs/g3m/...pt.")
    root = Path(read.text("data_root"))
    return [
        *_common(read),
        *("--val-data", spell_shards(list_shards(name, root / start.datasets.find(name)["root"]))),
        *("--pretrained", checkpoint),
        *("--logs-dir", read.text("results_dir"), "--name", _evaluation_name(read, name, checkpoint, start.moment)),
        *("--topk", str(read.whole("eval_topk")), "--label-ranking", read.text("eval_ranking")),
        *("--label-strategy", read.text("text_decoder_strategy")),
        *(("--label-encoder", read.text("label_encoder")) if read.text("label_encoder") else ()),
    ]


def _evaluation_name(read: Fields, data: str, checkpoint: str, moment: str) -> str:
    """Name the results by what they are of, as NXTP's files of results are."""
    parts = [read.text("exp_code"), "eval", data, Path(checkpoint).stem]
    parts += [read.text("text_decoder_strategy"), read.text("eval_ranking"), f"top{read.whole('eval_topk')}"]
    return "-".join([*parts, *([moment] if moment else [])])


def _common(read: Fields) -> list[str]:
    """Say what training and evaluation share: model, tokenizer, labels, machine."""
    precision = _PRECISIONS.get((read.text("dtype"), read.switch("force_to_use_fp16")))
    if precision is None:
        raise ConfigError(
            f"dtype is {printable(repr(read.text('dtype')), 60)} with force_to_use_fp16="
            f"{read.switch('force_to_use_fp16')}; it can be float16 (forced or not), bfloat16 or float32."
        )
    words = ["--task", read.text("recipe"), *_model(read), "--precision", precision, "--device", read.text("device")]
    words += ["--seed", str(read.whole("seed")), "--batch-size", str(read.whole("batch_size"))]
    words += ["--workers", str(read.whole("num_workers")), "--cache-dir", read.text("cache_root")]
    words += ["--log-every-n-steps", str(read.whole("log_interval"))]
    words += ["--label-tokenizer", read.text("tokenizer_path"), "--label-rule", read.text("label_rule")]
    words += ["--label-extractor", read.text("label_extractor"), "--min-labels", str(read.whole("min_labels"))]
    words += ["--bad-sample-budget", f"{read.number('bad_sample_budget')!r}"]
    # The captions themselves are labels, joined by commas.
    return [*words, "--label-column", TEXT] if read.switch("skip_extract_nouns") else words


def _model(read: Fields) -> list[str]:
    """Find or describe the model that clip_model, llama_model and the fields of its shape stand for."""
    name, cfg = _find_model(read.text("clip_model"), read.text("llama_model"))
    shaped = _shape(read, name, cfg)
    if shaped != cfg or name not in list_models():
        name = _describe(Path(read.text("cache_root")) / "models", name, shaped)
    _check_tokens(read, name, shaped)
    words = ["--model", name]
    if read.whole("input_size") != shaped["vision_cfg"]["image_size"]:
        words += ["--force-image-size", str(read.whole("input_size"))]
    if read.whole("max_seq_len") != shaped["decoder_cfg"]["context_length"]:
        words += ["--force-context-length", str(read.whole("max_seq_len"))]
    return words


def _find_model(eye: str, decoder: str) -> tuple[str, JsonObject]:
    """Find a model of the family nxtp by its name, else by the names of its eye and of its decoder."""
    known = list_models()
    for name in (eye, f"nxtp-{eye.replace('/', '-')}-{decoder}"):
        if name in known and (cfg := _read_model(name)).get("family") == "nxtp":
            return name, cfg
    ours = [one for one in known if one.startswith("nxtp-")]
    tower, base = eye.replace("/", "-"), next((one for one in ours if one.endswith(f"-{decoder}")), None)
    if tower not in known or base is None or "vision_cfg" not in _read_model(tower):
        near = suggest_nearest(tower, known) if base is not None else suggest_nearest(f"nxtp-{tower}-{decoder}", ours)
        raise ConfigError(
            f"there is no model with clip_model={printable(eye, 60)} and llama_model={printable(decoder, 60)}.{near} "
            f"clip_model is one of open_clip.list_models() with a ViT, or one of the family nxtp: {cut_list(ours)}."
        )
    # OpenAI's names have a slash, and its weights the approximate GELU.
    eye_cfg = _read_model(tower)
    quick_gelu = "/" in eye or bool(eye_cfg.get("quick_gelu"))
    cfg = {
        **_read_model(base),
        "vision_cfg": eye_cfg["vision_cfg"],
        "quick_gelu": quick_gelu,
    }
    return f"nxtp-{tower}-{decoder}", cfg


def _read_model(name: str) -> JsonObject:
    return find_source(name, None, load_weights=False).model_cfg


def _shape(read: Fields, name: str, cfg: JsonObject) -> JsonObject:
    """Write the fields of a model's shape into a copy of its configuration."""
    blocks, decoder = read.whole("shave_language_decoder_at"), read.text("llama_model")
    # A model that is named itself has as many blocks as it shall have.
    is_named = name == read.text("clip_model")
    whole = cfg["decoder_cfg"]["layers"] if is_named else _WHOLE_DECODERS[decoder]
    if not (blocks == -1 or 1 <= blocks <= whole):
        raise ConfigError(
            f"shave_language_decoder_at is {blocks}; for {printable(name, 100)} it is 1 to {whole}, or -1 for all."
        )
    shaped = deepcopy(cfg)
    shaped["decoder_cfg"]["layers"] = whole if blocks == -1 else blocks
    shaped["label_cfg"]["bidirectional_image"] = read.switch("prefix_image_tok_embeds")
    shaped["label_cfg"]["separate_labels"] = read.switch("decouple_label_tok_embeds")
    return shaped


def _describe(folder: Path, name: str, cfg: JsonObject) -> str:
    """Write a model folder without weights, which a run that goes on finds too; returns its name for ``--model``."""
    labels = cfg["label_cfg"]
    ways = "" if labels["bidirectional_image"] else "-causal"
    ways += "" if labels["separate_labels"] else "-joint"
    place = folder.absolute() / f"{name}-{cfg['decoder_cfg']['layers']}{ways}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / "open_clip_config.json", json.dumps({"model_cfg": cfg}, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"cache_root: cannot write to {printable(place, 300)}: {error.strerror}.") from error
    return f"{LOCAL_DIR_SCHEME}{place}"


def _check_tokens(read: Fields, name: str, cfg: JsonObject) -> None:
    tokens = cfg["label_cfg"]["added_tokens"]
    for token in (*read.texts("special_tokens"), *read.texts("special_tokens_to_train")):
        if token not in tokens:
            raise ConfigError(
                f"special_tokens names {printable(token, 60)}, which the model {name} lacks; it has {cut_list(tokens)}."
            )


def _optimizer(read: Fields) -> list[str]:
    numbers: tuple[tuple[str, str], ...] = (
        ("--lr", f"{read.number('lr')!r}"),
        ("--min-lr", f"{read.number('lr_min')!r}"),
        ("--wd", f"{read.number('wd')!r}"),
        ("--epochs", str(read.whole("epochs"))),
        ("--warmup", str(read.whole("warmup_steps"))),
        # The field is in per cent; the trainer, too, takes the longer of both.
        ("--lr-warmup-share", f"{read.number('warmup_ratio') / 100!r}"),
        ("--accum-freq", str(read.whole("gradient_accumulation_steps"))),
    )
    words = [word for pair in numbers for word in pair]
    words += ["--beta1", "0.9", "--beta2", "0.98", "--eps", "1e-6"]
    if read.number("grad_clip") > 0:
        words += ["--grad-clip-norm", f"{read.number('grad_clip')!r}"]
    words += ["--torchcompile"] if read.switch("compile") else []
    words += read.one_of("parallel_mode", {"ddp": "", "fsdp": "--fsdp"}).split()
    return words


def _saves(read: Fields, start: Start) -> list[str]:
    every, count = read.whole("ckpt_save_interval"), read.whole("ckpt_save_num")
    if every <= 0 and count > 0:
        rows = read.whole("batch_size") * read.whole("gradient_accumulation_steps") * start.world_size
        every = max(1, read.whole("epochs") * (start.num_pairs // rows) // count)
    words = ["--save-every-n-steps", str(every)] if every > 0 else []
    path = read.text("resume_ckpt_path")
    if path:
        words += ["--resume", path]
    elif read.switch("resume"):
        words += ["--resume", "latest"]
    return words


def _start_weights(read: Fields) -> list[str]:
    eye, folder, decoder = read.text("clip_model"), read.text("clip_dir"), read.text("llama_dir")
    if read.switch("from_scratch"):
        return []
    words = ["--decoder-weights", decoder] if decoder else []
    if folder:
        is_file = Path(folder).suffix in (".pt", ".pth", ".safetensors", ".bin")
        # OpenAI's own name of the file.
        words += ["--image-weights", folder if is_file else str(Path(folder) / f"{eye.replace('/', '-')}.pt")]
    return words


def _trained_parts(read: Fields) -> list[str]:
    words = ["--mask-mode", read.text("mask_mode"), "--first-token-target", read.text("first_token_target")]
    words += ["--loss-on-prompt"] if read.switch("loss_on_prompt") else []
    words += ["--label-prompts", "drawn" if read.switch("enable_prompt_augmentation") else "one"]
    words += ["--label-loss-weight", f"{read.number('weight_loss_obj')!r}"]
    words += ["--caption-loss-weight", f"{read.number('weight_loss_cap')!r}"]
    blocks = read.whole("train_image_blocks")
    words += ["--lock-image", "--lock-image-unlocked-groups", str(blocks)] if blocks >= 0 else []
    tokens = "all"
    if read.switch("partial_train_lang_tok_embeddings"):
        # With one of the added tokens the others learn too; nothing else ever reads them.
        tokens = "added" if read.texts("special_tokens_to_train") else "none"
    return [*words, "--train-tokens", tokens]
