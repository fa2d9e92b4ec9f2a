"""Build a tokenizer from a sentencepiece model file, with the rules of T5 or of Gemma.

Cleans no text, pads nothing and fetches no file. transformers' own classes read such a file differently in 4.38
and 4.57 and not at all in 5, so that the ids would hang on its version; ``tokenizers``, the engine below all of them,
is driven directly here.
"""

from pathlib import Path
from typing import Any

from open_clip.errors import DataError
from open_clip.tokenizer.hf import import_for_tokenizers

_SPACE = "\u2581"
_UNIGRAM, _BPE = 1, 2
_CONTROL, _USER_DEFINED = 3, 4
# Both vocabularies end a caption with this piece.
EOS_ID = 1


def read_pieces(path: str | Path) -> Any:
    """Read a sentencepiece model file as its protocol buffer.

    Raises:
        DataError: the file is missing or is not such a model.
        MissingDependency: sentencepiece or protobuf is not installed.
    """
    pb2 = import_for_tokenizers("sentencepiece.sentencepiece_model_pb2")
    errors = import_for_tokenizers("google.protobuf.message")
    try:
        model = pb2.ModelProto.FromString(Path(path).read_bytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}. Give the path of a .model file."
        ) from error
    except errors.DecodeError as error:
        raise DataError(f"{path}: is not a sentencepiece model ({error}). Fetch it again.") from error
    if len(model.pieces) <= EOS_ID or model.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise DataError(f"{path}: is not a sentencepiece model of the kind unigram or bpe. Fetch it again.")
    return model


def build_t5(model: Any) -> Any:
    """Build T5's tokenizer: the model's own normalisation, a space before the first word, unknown for what it lacks.

    A run of unknown characters is one unknown id, also where the model could spell them as bytes.

    Source: `T5TokenizerFast` of transformers 4.38, what SigLIP's published tokenizers were made with.
    """
    rust = import_for_tokenizers("tokenizers")
    tokenizer = _with_specials(rust, model, byte_fallback=False)
    steps = [rust.normalizers.Strip(left=False, right=True), rust.normalizers.Replace(rust.Regex(" {2,}"), _SPACE)]
    if charsmap := model.normalizer_spec.precompiled_charsmap:
        steps.insert(0, rust.normalizers.Precompiled(charsmap))
    tokenizer.normalizer = rust.normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = rust.pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="first")
    tokenizer.decoder = rust.decoders.Metaspace(replacement=_SPACE, prepend_scheme="first")
    return tokenizer


def build_gemma(model: Any) -> Any:
    """Build Gemma's tokenizer: no normalisation, no space before the first word, bytes for what the model lacks.

    Source: `GemmaTokenizerFast` of transformers 4.38 to 4.57.
    """
    rust = import_for_tokenizers("tokenizers")
    tokenizer = _with_specials(rust, model, byte_fallback=True)
    tokenizer.normalizer = rust.normalizers.Replace(" ", _SPACE)
    tokenizer.pre_tokenizer = rust.pre_tokenizers.Split(" ", "merged_with_previous")
    decoders = rust.decoders
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _with_specials(rust: Any, model: Any, byte_fallback: bool) -> Any:
    """Give the bare model its special tokens and the end of a caption."""
    tokenizer = rust.Tokenizer(_engine(rust.models, model, byte_fallback))
    tokenizer.add_tokens(
        [
            rust.AddedToken(piece.piece, normalized=False, special=piece.type == _CONTROL)
            for piece in model.pieces
            if piece.type in (_CONTROL, _USER_DEFINED)
        ]
    )
    end = model.pieces[EOS_ID].piece
    tokenizer.post_processor = rust.processors.TemplateProcessing(
        single=["$A", end], pair=["$A", end, "$B", end], special_tokens=[(end, EOS_ID)]
    )
    return tokenizer


def _engine(models: Any, model: Any, byte_fallback: bool) -> Any:
    spec = model.trainer_spec
    if spec.model_type == _UNIGRAM:
        scores = [(piece.piece, piece.score) for piece in model.pieces]
        return models.Unigram(scores, unk_id=spec.unk_id, byte_fallback=byte_fallback)
    ids = {piece.piece: idx for idx, piece in enumerate(model.pieces)}
    return models.BPE(
        ids, _merges(model, ids), unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=byte_fallback, dropout=None
    )


def _merges(model: Any, ids: dict[str, int]) -> list[tuple[str, str]]:
    """List the merges that a sentencepiece BPE model stands for: every split of a piece in two, best score first.

    The model keeps no merges: it joins whatever two neighbours give the piece of the highest score.
    """
    found = [
        (piece.score, place, len(piece.piece) - place, piece.piece)
        for piece in model.pieces
        for place in range(1, len(piece.piece))
        if piece.piece[:place] in ids and piece.piece[place:] in ids
    ]
    found.sort(key=lambda split: split[:3], reverse=True)
    return [(piece[:place], piece[place:]) for _, place, _, piece in found]
