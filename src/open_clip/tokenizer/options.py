"""Which tokenizer options a model's configuration may set. What programs pass themselves is not limited here.

A configuration comes from a file that anyone may have written. What it says reaches a loader, so only options that
shape texts and ids pass: none that runs code, names an address or a file, or changes what is fetched.
"""

from collections.abc import Mapping

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, cut_list, printable, suggest_nearest

#: Options of CLIP's own tokenizer.
OWN_OPTIONS = frozenset({"additional_special_tokens", "clean", "reduction_mask", "special_tokens"})
_TOKENS = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")
#: Options of ``HFTokenizer`` and of transformers' tokenizers.
HF_OPTIONS = frozenset(
    {
        *(f"{name}_token" for name in _TOKENS),
        *("additional_special_tokens", "extra_special_tokens", "add_bos_token", "add_eos_token"),
        *("add_dummy_prefix_space", "add_prefix_space", "clean", "clean_up_tokenization_spaces", "do_basic_tokenize"),
        *("do_lower_case", "keep_accents", "language", "legacy", "legacy_behaviour", "model_max_length", "never_split"),
        *("padding_side", "remove_space", "split_special_tokens", "src_lang", "strip_accents", "strip_sep_token"),
        *("tgt_lang", "tokenize_chinese_chars", "truncation_side", "use_fast"),
    }
)
_LISTS = ("additional_special_tokens", "extra_special_tokens", "never_split", "special_tokens")


def check_config_options(options: object, known: frozenset[str]) -> JsonObject:
    """Return a configuration's ``tokenizer_kwargs`` when all of them may stand there.

    Raises:
        ConfigError: they are no dict, one is not known, or a value is of another kind than this option takes.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"text_cfg's tokenizer_kwargs is {printable(options, 80)!r}; it has to be a dict of options.")
    for name, value in options.items():
        if name not in known:
            raise ConfigError(
                f"text_cfg's tokenizer_kwargs has {printable(name, 80)!r}, which a configuration may not set."
                f"{suggest_nearest(name, known)} It may set {cut_list(sorted(known), len(known))}; take the other "
                "entry out of the configuration."
            )
        parts = value if isinstance(value, list) and name in _LISTS else [value]
        if (name in _LISTS and not isinstance(value, list)) or not all(isinstance(part, str | int) for part in parts):
            wanted = "a list of texts" if name in _LISTS else "text, a whole number, true or false"
            raise ConfigError(
                f"text_cfg's tokenizer_kwargs has {name} = {printable(value, 80)}; it has to be {wanted}."
            )
    return dict(options)
