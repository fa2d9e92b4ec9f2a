"""A published decoder on disk: Meta's ``consolidated.00.pth`` with ``params.json``, or a Hugging Face folder.

Nothing is written, and no more is in memory than one file of weights; of safetensors, one weight.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from open_clip.checked_json import JsonObject, read_json
from open_clip.checkpoint import list_entries, read_entries, read_state_dict
from open_clip.errors import CheckpointError, ConfigError, cut_list, printable
from open_clip.families.nxtp.decoder import DecoderCfg, make_decoder_cfg
from open_clip.families.nxtp.layouts import HF, META, Layout
from open_clip.modeling.fields import show

_META_WEIGHTS, _META_CONFIG = "consolidated.00.pth", "params.json"
_HF_CONFIG = "config.json"
# Whole, and with a list of which weight is in which file.
_HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What our blocks compute; a file that asks for something else is of another decoder.
_HF_FIXED = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


@dataclass
class DecoderFiles:
    """A decoder's files, opened by ``open_decoder``.

    Attributes:
        folder: Where they are.
        cfg: Its sizes; ``context_length`` is the default's.
        files: Where each weight is, by its own name: the file and the name it has there.
        layout: Of the names in the files.
        is_tied: The head has no weights of its own.
    """

    folder: Path
    cfg: DecoderCfg
    files: dict[str, tuple[Path, str]]
    layout: Layout
    is_tied: bool = False
    # Meta's file does not say its sizes: it was read for them.
    _loaded: dict[str, Tensor] | None = None

    def read(self, layers: int) -> Iterator[tuple[str, Tensor]]:
        """Give the weights of the first ``layers`` blocks and of both ends, file by file, in our names and layout.

        Raises:
            CheckpointError: a file is missing or damaged, or a weight is not there.
        """
        self._refuse_missing(layers)
        wanted = {own: place for own, place in self.files.items() if _is_of_first(own, layers)}
        for path in dict.fromkeys(place[0] for place in wanted.values()):
            theirs = {place[1]: own for own, place in wanted.items() if place[0] == path}
            for name, weight in self._entries(path, theirs.__contains__):
                own = theirs.pop(name)
                weight = self.layout.to_own(own, weight, self.cfg)
                yield own, weight
                if own == "token_embedding.weight" and self.is_tied:
                    yield "head.weight", weight
            if theirs:
                raise CheckpointError(f"{printable(path)}: it has no {cut_list(theirs)}, which its index says it has.")

    def largest_file_bytes(self) -> int:
        """Give the size of the largest file of weights."""
        return max(path.stat().st_size for path in {place[0] for place in self.files.values()})

    def _entries(self, path: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, Tensor]]:
        if self._loaded is None:
            _need(path, "weights of the decoder are")
            yield from read_entries(path, is_wanted)
            return
        loaded, self._loaded = self._loaded, None
        for name in list(loaded):
            weight = loaded.pop(name)
            if is_wanted(name):
                yield name, weight

    def _refuse_missing(self, layers: int) -> None:
        if not 1 <= layers <= self.cfg.layers:
            raise CheckpointError(
                f"{printable(self.folder)}: the decoder has {self.cfg.layers} layers and {layers} are asked for; ask "
                f"for 1 to {self.cfg.layers}."
            )
        needed = {name for name in self.layout.own_names(layers) if name != "head.weight" or not self.is_tied}
        if missing := sorted(needed - self.files.keys()):
            listed = cut_list(self.layout.their_name(name) for name in missing)
            raise CheckpointError(
                f"{printable(self.folder)}: {len(missing)} weights are missing: {listed}. Fetch the files again."
            )


def _is_of_first(own: str, layers: int) -> bool:
    return not own.startswith("blocks.") or int(own.split(".")[1]) < layers


def open_decoder(path: str | Path) -> DecoderFiles:
    """Find out what a decoder's files hold, by a folder or by one of its files.

    Raises:
        CheckpointError: a file is missing, which the message names with its path, or damaged, or it is another decoder.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if (folder / _HF_CONFIG).exists():
        return _open_hf(folder)
    if (folder / _META_CONFIG).exists() or path.name == _META_WEIGHTS or (folder / _META_WEIGHTS).exists():
        return _open_meta(folder)
    raise CheckpointError(
        f"{printable(folder)}: there is no decoder. Expected are {printable(folder / _META_WEIGHTS)} with "
        f"{_META_CONFIG}, as Meta gives LLaMA out, or {printable(folder / _HF_CONFIG)} with {_HF_WEIGHTS[0]}, as on "
        "the Hugging Face hub."
    )


def _need(path: Path, what: str) -> Path:
    if not path.is_file():
        raise CheckpointError(
            f"{printable(path)}: the {what} expected in this file, which is not there. Put it there, or name the "
            "folder that has it."
        )
    return path


def _read_config(path: Path) -> JsonObject:
    _need(path, "sizes of the decoder are")
    try:
        told = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{printable(path)}: cannot be read ({error}). Fetch it again.") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{printable(path)}: is {show(told)}; an object belongs there. Fetch it again.")
    return told


def _make_cfg(path: Path, values: JsonObject) -> DecoderCfg:
    try:
        return make_decoder_cfg({key: value for key, value in values.items() if value is not None})
    except ConfigError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from error


def _refuse(path: Path, name: str, value: object, expected: object) -> None:
    raise CheckpointError(
        f"{printable(path)}: {name} is {show(value)} and must be {show(expected)}: it is not a decoder of LLaMA's "
        "kind. LLaMA 1 to 3 and models with their blocks can be taken."
    )


def _open_meta(folder: Path) -> DecoderFiles:
    config, weights = folder / _META_CONFIG, folder / _META_WEIGHTS
    told = _read_config(config)
    if (folder / "consolidated.01.pth").exists():
        raise CheckpointError(
            f"{printable(folder)}: the decoder is cut over several files. Give a size that is one file, such as 7B, or "
            "its Hugging Face folder."
        )
    if told.get("use_scaled_rope"):
        _refuse(config, "use_scaled_rope", True, False)
    loaded = read_state_dict(_need(weights, "weights of the decoder are"))
    files = {own: (weights, name) for name in loaded if (own := META.own_name(name)) is not None}
    if "token_embedding.weight" not in files or "blocks.0.mlp.gate_proj.weight" not in files:
        raise CheckpointError(f"{printable(weights)}: holds no LLaMA in Meta's layout. Give another file.")
    # The vocabulary stands in the file as -1, and the inner width as a rule.
    vocab_size, ffn_width = (
        loaded[files[name][1]].shape[0] for name in ("token_embedding.weight", "blocks.0.mlp.gate_proj.weight")
    )
    cfg = _make_cfg(
        config,
        {
            "width": told.get("dim"),
            "layers": told.get("n_layers"),
            "heads": told.get("n_heads"),
            "kv_heads": told.get("n_kv_heads"),
            "norm_eps": told.get("norm_eps"),
            "rope_base": told.get("rope_theta"),
            "ffn_width": ffn_width,
            "vocab_size": vocab_size,
        },
    )
    return DecoderFiles(folder, cfg, files, META, _loaded=loaded)


def _open_hf(folder: Path) -> DecoderFiles:
    config = folder / _HF_CONFIG
    told = _read_config(config)
    for name, expected in _HF_FIXED.items():
        if told.get(name, expected) != expected:
            _refuse(config, name, told[name], expected)
    # transformers 5 keeps both in one object.
    rope = told.get("rope_parameters") or told.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default":
        _refuse(config, "rope_type", kind, "default")
    cfg = _make_cfg(
        config,
        {
            "width": told.get("hidden_size"),
            "layers": told.get("num_hidden_layers"),
            "heads": told.get("num_attention_heads"),
            "kv_heads": told.get("num_key_value_heads"),
            "ffn_width": told.get("intermediate_size"),
            "vocab_size": told.get("vocab_size"),
            # The default of LlamaConfig, where a file does not say it.
            "norm_eps": told.get("rms_norm_eps", 1e-6),
            "rope_base": rope.get("rope_theta", told.get("rope_theta")),
        },
    )
    if told.get("head_dim", cfg.width // cfg.heads) not in (None, cfg.width // cfg.heads):
        _refuse(config, "head_dim", told["head_dim"], cfg.width // cfg.heads)
    files = {own: (shard, name) for name, shard in _list_hf(folder).items() if (own := HF.own_name(name)) is not None}
    return DecoderFiles(folder, cfg, files, HF, is_tied=bool(told.get("tie_word_embeddings")))


def _list_hf(folder: Path) -> dict[str, Path]:
    """List which weight is in which file."""
    for whole in _HF_WEIGHTS:
        index = folder / f"{whole}.index.json"
        if index.exists():
            places = _read_config(index).get("weight_map")
            if not isinstance(places, dict) or not all(_is_file_name(shard) for shard in places.values()):
                raise CheckpointError(f"{printable(index)}: has no weight_map of names to files. Fetch it again.")
            return {name: folder / shard for name, shard in places.items()}
        if (folder / whole).exists():
            return {name: folder / whole for name in list_entries(folder / whole)}
    _need(folder / _HF_WEIGHTS[0], "weights of the decoder are")
    return {}


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value
