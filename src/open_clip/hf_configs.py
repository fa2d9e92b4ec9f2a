"""How each Hugging Face architecture names the parts that a text tower needs. Nothing is built here.

Source: open_clip.hf_configs.arch_dict (3.3.0): the dict's shape, names and default poolers.
"""

from typing import Any

_BERT_NAMES = {
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "layer_attr": "layer",
    "token_embeddings_attr": "embeddings",
}

arch_dict: dict[str, dict[str, Any]] = {
    "roberta": {"config_names": dict(_BERT_NAMES), "pooler": "mean_pooler"},
    "xlm-roberta": {"config_names": dict(_BERT_NAMES), "pooler": "mean_pooler"},
    "bert": {"config_names": dict(_BERT_NAMES), "pooler": "cls_pooler"},
    "mt5": {
        "config_names": {
            # Its positions are relative: the length is not limited.
            "context_length": "",
            "vocab_size": "vocab_size",
            "width": "d_model",
            "heads": "num_heads",
            "layers": "num_layers",
            "layer_attr": "block",
            "token_embeddings_attr": "embed_tokens",
        },
        "pooler": "mean_pooler",
    },
    "m2m_100": {
        "config_names": {
            "context_length": "max_position_embeddings",
            "vocab_size": "vocab_size",
            "width": "d_model",
            "heads": "encoder_attention_heads",
            "layers": "encoder_layers",
            "layer_attr": "layers",
            "token_embeddings_attr": "embed_tokens",
        },
        "pooler": "cls_pooler",
    },
}
