"""The shards of a run from the flags."""

import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from open_clip.errors import ConfigError, printable
from training.assembly.place import Place
from training.data import StreamLoader, TextPlanner, expand_urls, refuse_pipes, require_shards
from training.data.shards import Selector, ShardCache, ShardTable, Visit, open_shards
from training.distributed import gather_objects
from training.params import RunParams, ShardParams

_ENDINGS: Final = (".tar", ".tar.gz", ".tgz")


def is_shard_pattern(path: str) -> bool:
    """Tell whether a data flag names tar shards; packed ones too, which only a stream unpacks."""
    return all(source.rstrip().endswith(_ENDINGS) for source in path.split("::"))


def check_shards(pattern: str, role: str, params: ShardParams) -> None:
    """Check the list of shards, and that those of this machine are there; opens none.

    Raises:
        ConfigError: the flags contradict each other.
        DataError: shards are missing.
    """
    urls = expand_urls(pattern, params.train_data_upsampling_factors if role == "train" else None)[0]
    refuse_pipes(urls, params.allow_pipe_urls)
    require_shards(urls)
    _selector(params)


def build_shard_table(pattern: str, role: str, params: ShardParams, place: Place) -> ShardTable:
    """Open shards for training or validation.

    Raises:
        ConfigError: the flags contradict each other.
        DataError: shards are missing, unreadable or without samples.
    """
    is_train = role == "train"
    factors = params.train_data_upsampling_factors if is_train else None
    urls, weights = expand_urls(pattern, factors)
    refuse_pipes(urls, params.allow_pipe_urls)
    if is_train and params.dataset_resampled and weights is None:
        weights = [1.0] * len(urls)
    return open_shards(
        pattern,
        urls,
        _selector(params),
        Visit(
            num_samples=params.train_num_samples if is_train else None,
            window=params.shard_window,
            weights=weights if is_train else None,
        ),
        index_dir=params.shard_index_dir,
        cache=_cache(params),
        group_images=not is_train,
        rank=place.world.rank,
        world_size=place.world.world_size,
        gather=lambda own: gather_objects(own, place.world),
    )


def build_stream_loader(
    params: RunParams, place: Place, transform: Any, tokenizer: Any, plan_texts: TextPlanner | None
) -> StreamLoader:
    """Stream training shards in upstream's order.

    Raises:
        DataError: shards are missing, or too few for all workers.
    """
    pattern, data = params.data.train_data, params.data
    args = Namespace(
        **vars(params.shards),
        train_data=pattern,
        batch_size=data.batch_size,
        workers=data.workers,
        seed=params.hardware.seed,
        world_size=place.world.world_size,
        rank=place.world.rank,
        max_image_pixels=data.max_image_pixels,
        image_pixels=data.image_pixels,
    )
    # Torch would say on every process and for every epoch what the run says once.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    return StreamLoader(args, transform, tokenizer, plan_texts)


def _cache(params: ShardParams) -> ShardCache | None:
    if params.shard_cache is None:
        return None
    max_bytes = None if params.shard_cache_gb is None else int(params.shard_cache_gb * 1e9)
    return ShardCache(params.shard_cache, max_bytes, params.allow_pipe_urls)


def _selector(params: ShardParams) -> Selector:
    return Selector(
        image_keys=_split(params.image_key),
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
