"""Training shards streamed in upstream's order, from the flags."""

import warnings
from argparse import Namespace
from typing import Any

from training.assembly.place import Place
from training.data import StreamLoader, TextPlanner
from training.params import RunParams


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
