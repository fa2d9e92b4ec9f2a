"""Tokenizers made by transformers, behind the call of our own. transformers is optional, imported when used.

Which model wants which tokenizer is the factory's question.
"""

import warnings
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, MissingDependency, printable, suggest_nearest
from open_clip.extras import install_advice, run_no_foreign_code, tell_of_hub
from open_clip.tokenizer.bpe import DEFAULT_CONTEXT_LENGTH
from open_clip.tokenizer.captions import choose_length, clean_captions, refuse_non_strings, to_captions
from open_clip.tokenizer.cleaning import CleanFn, get_clean_fn

_MODES = ("clips",)
# Words of transformers' that have it run Python files of a repository.
_CODE_OPTIONS = ("trust_remote_code", "code_revision")
_CLIPS_SPECIALS = ("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id")


def import_for_tokenizers(module: str) -> Any:
    """Import a module that the tokenizers of other models need.

    Raises:
        MissingDependency: it is not installed, or what it needs is not.
    """
    try:
        return import_module(module)
    except (ImportError, RuntimeError, TypeError) as error:
        # A protobuf that does not fit sentencepiece fails with a TypeError.
        raise MissingDependency(
            f"this tokenizer needs {module}, which cannot be imported ({error}): {install_advice('hf')}."
        ) from error


def pad_captions(tokenizer: Any, captions: list[str], length: int) -> Tensor:
    """Tokenize with a tokenizer of transformers to int64 [n, length], cut and padded as it says.

    Raises:
        ConfigError: it has no padding token.
    """
    if not captions:
        return torch.zeros(0, length, dtype=torch.long)
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"{_name_of(tokenizer)} has no padding token: name one, for instance pad_token={tokenizer.eos_token!r}."
        )
    ids: Tensor = tokenizer(
        captions, return_tensors="pt", max_length=length, padding="max_length", truncation=True
    ).input_ids
    return ids


class HFTokenizer:
    """Tokenizes captions with any tokenizer of the Hugging Face hub or of a folder, `tokenizer`.

    `HFTokenizer("bert-base-uncased")(["a cat"])` gives int64 [1, 77]. Captions are cleaned as `clean` says, then cut
    and padded by the tokenizer's own rules; `strip_sep_token` puts 0 in place of the separator. The mode `clips` writes
    a row as start token, ids, end token, padding, and the class token in the last place. `language` is for tokenizers
    that mark the language, such as NLLB's. Keywords not listed go to `AutoTokenizer.from_pretrained`, but for those
    that would run code of the tokenizer's repository (`trust_remote_code`), which are refused.

    Source: `HFTokenizer` of open_clip_torch 3.3.0: arguments, attributes and ids. One difference: `language` takes
    effect, which it does not there.

    Raises:
        ConfigError: the tokenizer cannot be read, or an option is not known.
        MissingDependency: transformers, or what the tokenizer needs beside it, is not installed.
    """

    def __init__(
        self,
        tokenizer_name: str | Path,
        context_length: int | None = DEFAULT_CONTEXT_LENGTH,
        clean: str = "whitespace",
        strip_sep_token: bool = False,
        language: str | None = None,
        cache_dir: str | None = None,
        tokenizer_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.tokenizer_mode = tokenizer_mode or ""
        if self.tokenizer_mode and self.tokenizer_mode not in _MODES:
            raise ConfigError(
                f"tokenizer_mode {tokenizer_mode!r} is not known.{suggest_nearest(self.tokenizer_mode, _MODES)}"
                f" Choose one of {', '.join(_MODES)}, or leave it out."
            )
        self.context_length = context_length
        self.clean_fn: CleanFn = get_clean_fn(clean)
        self.strip_sep_token = strip_sep_token
        self.tokenizer: Any = _load(str(tokenizer_name), cache_dir, kwargs)
        set_lang_fn = getattr(self.tokenizer, "set_src_lang_special_tokens", None)
        if callable(set_lang_fn):
            self.set_lang_fn = set_lang_fn
        if language is not None:
            self.set_language(language)

    def save_pretrained(self, dest: str | Path) -> None:
        """Write the tokenizer's files into a folder, from which it can be made again by that folder's path."""
        self.tokenizer.save_pretrained(str(dest))

    def set_language(self, src_lang: str) -> None:
        """Mark captions as of this language from now on; a tokenizer that knows no languages warns.

        Raises:
            ConfigError: the tokenizer has no token for this language.
        """
        if not hasattr(self, "set_lang_fn"):
            warnings.warn(
                f"{_name_of(self.tokenizer)} knows no languages; {src_lang!r} is ignored.", UserWarning, stacklevel=2
            )
            return
        if self.tokenizer.convert_tokens_to_ids(src_lang) in (None, self.tokenizer.unk_token_id):
            raise ConfigError(
                f"{_name_of(self.tokenizer)} has no token for the language {src_lang!r}: its codes look like eng_Latn."
            )
        # transformers goes back to this attribute before every call, which undoes what upstream sets.
        self.tokenizer.src_lang = src_lang
        self.set_lang_fn(src_lang)

    def __call__(self, texts: str | Iterable[str], context_length: int | None = None) -> Tensor:
        """Tokenize captions to int64 [n, context_length].

        Args:
            texts: One caption or several.
            context_length: Length of a row; the tokenizer's own when None.

        Raises:
            ConfigError: No context length is set, or the tokenizer lacks a token that the row needs.
            DataError: A caption is not a string or cannot be cleaned.
        """
        captions = to_captions(texts)
        length = choose_length(context_length, self.context_length)
        refuse_non_strings(captions)
        captions = clean_captions(captions, self.clean_fn)
        if self.tokenizer_mode == "clips":
            return self._to_clips_rows(captions, length)
        ids = pad_captions(self.tokenizer, captions, length)
        if self.strip_sep_token:
            ids = ids.masked_fill(ids == self._special("sep_token_id"), 0)
        return ids

    def _to_clips_rows(self, captions: list[str], length: int) -> Tensor:
        start, end, padding, class_token = map(self._special, _CLIPS_SPECIALS)
        rows = torch.full((len(captions), length), padding, dtype=torch.long)
        rows[:, -1] = class_token
        if not captions:
            return rows
        bodies = self.tokenizer(captions, add_special_tokens=False, padding=False, truncation=False).input_ids
        for row, body in zip(rows, bodies, strict=True):
            ids = [start, *body[: max(length - 3, 0)], end][: length - 1]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return rows

    def _special(self, name: str) -> int:
        found: int | None = getattr(self.tokenizer, name)
        if found is None:
            token = name.removesuffix("_id")
            wanted_by = "tokenizer_mode='clips'" if self.tokenizer_mode else "strip_sep_token"
            raise ConfigError(f"{_name_of(self.tokenizer)} has no {token}, which {wanted_by} needs: pass {token}=...")
        return found


def _name_of(tokenizer: Any) -> str:
    return f"The tokenizer {tokenizer.name_or_path!r}"


def _load(name: str, cache_dir: str | None, options: JsonObject) -> Any:
    options = _without_code(name, options)
    transformers = import_for_tokenizers("transformers")
    remedy = "Without a network, give the path of a folder that holds its files, or a filled cache_dir."
    if not Path(name).is_dir():
        tell_of_hub("the tokenizer", name)
    with run_no_foreign_code(f"The tokenizer {printable(name)!r}", remedy):
        made = transformers.AutoTokenizer.from_pretrained(name, cache_dir=cache_dir, trust_remote_code=False, **options)
    if not isinstance(made, transformers.PreTrainedTokenizerBase):
        raise ConfigError(
            f"The tokenizer {printable(name)!r} is none: its files name the class {type(made).__name__}. Name another."
        )
    return made


def _without_code(name: str, options: JsonObject) -> JsonObject:
    """Leave out the words about code that say no, and refuse those that say yes."""
    for word in _CODE_OPTIONS:
        if options.get(word):
            raise ConfigError(
                f"The tokenizer {printable(name)!r}: {word}={printable(options[word])} is refused; the Python code "
                "of a repository is never run. Leave it out: tokenizers that transformers knows by itself need no code."
            )
    return {key: value for key, value in options.items() if key not in _CODE_OPTIONS}
