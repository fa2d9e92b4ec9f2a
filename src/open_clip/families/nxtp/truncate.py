"""Cutting a published decoder to its first blocks: a small Hugging Face folder, which transformers reads as well."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from open_clip.checkpoint import write_safetensors
from open_clip.errors import CheckpointError, printable
from open_clip.families.nxtp.decoder import DecoderCfg
from open_clip.families.nxtp.decoder_files import open_decoder
from open_clip.families.nxtp.layouts import HF
from open_clip.files import write_whole

_TOKENIZERS = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# This share of the largest file is put together at a time; writing it takes as much again, twice, beside the file.
_GATHERED = 1 / 8


def truncate_decoder(source: str | Path, out: str | Path, layers: int) -> int:
    """Write a decoder's first ``layers`` blocks with its last norm and head; what it is written from stays as it is.

    The memory this takes stays under twice the largest file of weights. A killed run leaves a folder without
    ``config.json``, which nothing reads.

    Args:
        source: Folder of Meta's or of a Hugging Face decoder.
        out: Folder to write, which must be empty or not there.
        layers: How many blocks.

    Returns:
        How many bytes the weights take.

    Raises:
        CheckpointError: a file is missing or damaged, there are fewer layers, or the folder cannot be written or is not
            empty.
    """
    files, out = open_decoder(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{printable(out)}: it is there and not empty. Choose a folder that is not.")
    most = max(int(files.largest_file_bytes() * _GATHERED), 1)
    places: dict[str, str] = {}
    written, dtype = 0, torch.float32
    for number, gathered in enumerate(_gather(files.read(layers), most), start=1):
        name = f"model-{number:05d}.safetensors"
        write_safetensors({HF.their_name(own): weight for own, weight in gathered.items()}, out / name)
        places |= dict.fromkeys(map(HF.their_name, gathered), name)
        written += sum(map(_bytes_of, gathered.values()))
        dtype = next(iter(gathered.values())).dtype
    try:
        _copy_tokenizer(files.folder, out)
        index = {"metadata": {"total_size": written}, "weight_map": places}
        write_whole(out / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")
        config = _describe(replace(files.cfg, layers=layers), str(dtype).removeprefix("torch."))
        write_whole(out / "config.json", json.dumps(config, indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"{printable(out)}: cannot be written ({error}). Free space or choose another folder."
        ) from error
    return written


def _bytes_of(weight: Tensor) -> int:
    return weight.numel() * weight.itemsize


def _gather(weights: Iterator[tuple[str, Tensor]], most_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Put weights together until they take so many bytes, and then let go of them."""
    gathered: dict[str, Tensor] = {}
    for own, weight in weights:
        if gathered and sum(map(_bytes_of, gathered.values())) + _bytes_of(weight) > most_bytes:
            yield gathered
            gathered = {}
        gathered[own] = weight
    if gathered:
        yield gathered


def _copy_tokenizer(folder: Path, out: Path) -> None:
    for name in _TOKENIZERS:
        # Meta keeps one for all sizes, beside their folders.
        found = next((place / name for place in (folder, folder.parent) if (place / name).is_file()), None)
        if found is not None:
            shutil.copyfile(found, out / name)


def _describe(cfg: DecoderCfg, dtype: str) -> dict[str, object]:
    """Say what the decoder is, as transformers does."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": cfg.width,
        "intermediate_size": cfg.ffn_width,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads or cfg.heads,
        "vocab_size": cfg.vocab_size,
        "rms_norm_eps": cfg.norm_eps,
        "rope_theta": cfg.rope_base,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": dtype,
    }
