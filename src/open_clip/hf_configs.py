"""How each Hugging Face architecture names the parts that a text tower needs. Nothing is built here.

``ENCODERS`` describes the encoders of the shipped models, so that a tower without base weights asks nobody for them.

Source: open_clip.hf_configs.arch_dict (3.3.0): the dict's shape, names and default poolers; for ``ENCODERS`` the
config.json of the repositories of these names, as far as it differs from transformers' own defaults.
"""

from open_clip.checked_json import JsonObject

_BERT_NAMES = {
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "layer_attr": "layer",
    "token_embeddings_attr": "embeddings",
}

_MT5_NAMES = _BERT_NAMES | {
    # Its positions are relative: the length is not limited.
    "context_length": "",
    "width": "d_model",
    "heads": "num_heads",
    "layers": "num_layers",
    "layer_attr": "block",
    "token_embeddings_attr": "embed_tokens",
}
_M2M_NAMES = _BERT_NAMES | {
    "width": "d_model",
    "heads": "encoder_attention_heads",
    "layers": "encoder_layers",
    "layer_attr": "layers",
    "token_embeddings_attr": "embed_tokens",
}

arch_dict: dict[str, JsonObject] = {
    "roberta": {"config_names": dict(_BERT_NAMES), "pooler": "mean_pooler"},
    "xlm-roberta": {"config_names": dict(_BERT_NAMES), "pooler": "mean_pooler"},
    "bert": {"config_names": dict(_BERT_NAMES), "pooler": "cls_pooler"},
    "mt5": {"config_names": _MT5_NAMES, "pooler": "mean_pooler"},
    "m2m_100": {"config_names": _M2M_NAMES, "pooler": "cls_pooler"},
}

_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "bos_token_id": 0}
_XLM_ROBERTA = _ROBERTA | {"model_type": "xlm-roberta", "vocab_size": 250002}
_MT5 = {"model_type": "mt5", "vocab_size": 250112, "tie_word_embeddings": False, "decoder_start_token_id": 0}
_NLLB = {"model_type": "m2m_100", "vocab_size": 256206, "encoder_layerdrop": 0, "decoder_layerdrop": 0}
_NLLB |= {"bos_token_id": 0, "max_length": 200}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

ENCODERS: dict[str, JsonObject] = {
    "roberta-base": _ROBERTA | {"model_type": "roberta"},
    "xlm-roberta-base": _XLM_ROBERTA,
    "xlm-roberta-large": _XLM_ROBERTA | _LARGE,
    "google/mt5-base": _MT5
    | {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12},
    "google/mt5-xl": _MT5
    | {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 32},
    "facebook/nllb-200-distilled-600M": _NLLB,
    "facebook/nllb-200-distilled-1.3B": _NLLB
    | {"encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192},
}
