"""Tar shards as a kind of data: which paths are some, and what the flags of shards ask for."""

from collections.abc import Sequence
from typing import Final

from open_clip.errors import ConfigError, printable
from training.data.kind import SourceKind, SourceRequest
from training.data.members import MemberColumn
from training.data.shard_files import refuse_pipes
from training.data.shards.cache import ShardCache
from training.data.shards.open import open_shards
from training.data.shards.rows import ShardTable, Visit
from training.data.shards.selector import Selector
from training.data.source import IMAGE, TEXT
from training.data.urls import expand_urls, require_shards
from training.params.data import ShardParams

_ENDINGS: Final = (".tar", ".tar.gz", ".tgz")


class ShardKind(SourceKind):
    """``webdataset``: tar shards, packed ones too, which only a stream unpacks."""

    can_stream = True

    def claims(self, request: SourceRequest) -> bool:
        """Take what is called like tar files, all patterns of it."""
        return all(pattern.rstrip().endswith(_ENDINGS) for pattern in request.path.split("::"))

    def check(self, request: SourceRequest) -> None:
        """Check the list of shards, and that those of this machine are there; opens none."""
        require_shards(_list_shards(request)[0])
        _selector(request)
        if request.role == "train" and request.shards.shard_order == "buffer":
            _refuse_streaming(request)

    def open(self, request: SourceRequest) -> ShardTable:
        """Count the samples of all shards, each process a part of them."""
        params, is_train = request.shards, request.role == "train"
        urls, weights = _list_shards(request)
        if is_train and params.dataset_resampled and weights is None:
            weights = [1.0] * len(urls)
        return open_shards(
            request.path,
            urls,
            _selector(request),
            Visit(
                num_samples=params.train_num_samples if is_train else None,
                window=params.shard_window,
                weights=weights if is_train else None,
            ),
            index_dir=params.shard_index_dir,
            cache=_cache(params),
            group_images=not is_train and IMAGE in request.columns,
            rank=request.rank,
            world_size=request.world_size,
            gather=request.gather,
        )


def _list_shards(request: SourceRequest) -> tuple[list[str], Sequence[float] | None]:
    factors = request.shards.train_data_upsampling_factors if request.role == "train" else None
    urls, weights = expand_urls(request.path, factors)
    refuse_pipes(urls, request.shards.allow_pipe_urls)
    return urls, weights


def _cache(params: ShardParams) -> ShardCache | None:
    if params.shard_cache is None:
        return None
    max_bytes = None if params.shard_cache_gb is None else int(params.shard_cache_gb * 1e9)
    return ShardCache(params.shard_cache, max_bytes, params.allow_pipe_urls)


def _refuse_streaming(request: SourceRequest) -> None:
    """Refuse what a stream does not read: it groups and filters samples as upstream does, by image and caption."""
    others = [name for name in request.columns if name not in (IMAGE, TEXT) or request.own_name(name)]
    if others or len(request.columns) == 1:
        raise ConfigError(
            f"--shard-order buffer streams images and captions alone, by --image-key and --text-key; the run reads "
            f"{', '.join(request.columns)}{' by --columns' if request.data.own_names else ''}. Leave it out."
        )


def _selector(request: SourceRequest) -> Selector:
    """Say which members are read: image and caption by their own flags, everything else by name or ``--columns``."""
    params, image, text = request.shards, request.own_name(IMAGE), request.own_name(TEXT)
    further = [name for name in request.columns if name != IMAGE and (name != TEXT or text is not None)]
    return Selector(
        takes_image=IMAGE in request.columns,
        takes_text=TEXT in request.columns and text is None,
        further=tuple(MemberColumn.named(name, request.own_name(name)) for name in further),
        image_keys=_split(params.image_key if image is None else image),
        text_keys=_split(params.text_key),
        json_keys=_split(params.json_text_key or ""),
        json_weights=_numbers(params.json_text_key_probs),
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(word.strip().lstrip(".") for word in text.split(";") if word.strip())


def _numbers(words: str | None) -> tuple[float, ...]:
    parts: Sequence[str] = _split(words or "")
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise ConfigError(
            f"--json-text-key-probs {printable(words)}: give numbers separated by `;`, such as 0.7;0.3."
        ) from None
