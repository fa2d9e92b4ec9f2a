"""Tiny Hugging Face encoders and tokenizers as local folders, one of each architecture that upstream's models use."""

import json
from pathlib import Path
from typing import Any

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 99,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_MT5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 99,
    "dropout_rate": 0.0,
    "is_encoder_decoder": True,
}
_M2M = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "vocab_size": 99,
    "max_position_embeddings": 40,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "is_encoder_decoder": True,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _BERT | {"pad_token_id": 1},
    "xlm-roberta": _BERT | {"pad_token_id": 1},
    "mt5": _MT5 | {"pad_token_id": 0},
    "m2m_100": _M2M | {"pad_token_id": 1},
}


def write_encoder(folder: Path, kind: str) -> str:
    """Write the configuration of a tiny encoder as a folder of its own and return that folder's path."""
    path = folder / f"tiny-{kind}"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": kind} | ENCODERS[kind]))
    return str(path)
