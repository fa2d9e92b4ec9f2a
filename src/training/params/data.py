"""Flags that choose the training and validation data."""

from dataclasses import dataclass, field
from typing import Any

from open_clip.errors import ConfigError
from training.params.flags import Flag, KeyValueAction, flag
from training.params.plugins import absolute
from training.params.values import ABOVE_ZERO, SHARE, column_pair, path, separator, text, whole


def kind_word(word: str) -> str:
    """Read the name of a kind of data; a path is spelt so that the run can be resumed from another folder.

    Raises:
        argparse.ArgumentTypeError: It is no text.
    """
    return absolute(text(word))


@dataclass(frozen=True)
class DataParams:
    """Data."""

    train_data: str | None = flag(
        None,
        "training pairs: a .csv or .tsv file, a folder, or tar shards such as 'dir/{00000..00499}.tar'; `::` joins"
        " patterns (see --dataset-type)",
    )
    val_data: str | None = flag(None, "validation pairs, same forms; without --train-data the run only evaluates")
    dataset_type: str = flag(
        "auto",
        "csv: a table of image paths and captions; folder: a Flickr30k-form folder or images with NAME.txt files;"
        " classes: one folder of images a class; webdataset: tar shards; synthetic: --train-num-samples black images,"
        " to try a set-up out (--val-data is then read as with auto); auto: by what --train-data is; FILE.py:NAME: a"
        " kind of your own",
        type=kind_word,
    )
    csv_separator: str = flag(
        "\t", "text between two columns of the table; `,` for a comma-separated file", type=separator
    )
    csv_img_key: str = flag("filepath", "name of the column that holds image paths")
    csv_caption_key: str = flag("title", "name of the column that holds captions")
    columns: list[str] | None = flag(
        None,
        "what the data calls a column that the recipe reads, for example label=cls short_text=json:short_caption",
        nargs="*",
        metavar="NAME=COLUMN",
        type=column_pair,
    )
    batch_size: int = flag(
        64, "pairs a step for each process; the global batch is this times the number of processes", type=whole(1)
    )
    workers: int = flag(
        4, "loader processes for each training process; 0 loads in the training process", type=whole(0, 4_096)
    )
    aug_cfg: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "flag": Flag(
                help="changes to the training augmentation, for example scale='(0.5, 1.0)' color_jitter_prob=0.8",
                nargs="*",
                action=KeyValueAction,
                metavar="KEY=VALUE",
            )
        },
    )
    image_pixels: str = flag(
        "exact",
        "exact: images are Pillow's, to the pixel; near: those of training are a level or two off here and there, to"
        " be faster where the extra `fast` is not installed",
        choices=("exact", "near"),
    )
    bad_sample_budget: float = flag(
        0.01,
        "share of the rows, of training and validation data each, that may be unusable before the run stops: status 3",
        type=SHARE,
    )
    max_image_pixels: int = flag(
        25_000_000, "largest image that is decoded, in pixels; larger ones count as unusable", type=whole(1)
    )

    @property
    def own_names(self) -> dict[str, str]:
        """What the data calls the columns of ``--columns``, by the names that recipes read them under."""
        words = self.columns or []
        names = dict(word.partition("=")[::2] for word in words)
        if len(names) < len(words):
            raise ConfigError(f"--columns {' '.join(words)}: a name is there twice; leave one.")
        return names

    @property
    def trains(self) -> bool:
        """Whether a run has training data; without any it only evaluates."""
        return bool(self.train_data) or self.dataset_type == "synthetic"


@dataclass(frozen=True)
class ShardParams:
    """Shards and synthetic data."""

    train_num_samples: int | None = flag(
        None,
        "training pairs an epoch: of shards at most, all when not given; of synthetic data needed",
        type=whole(1, 10**12),
    )
    val_num_samples: int | None = flag(
        None, "for training.data.get_data; the trainer counts its validation shards itself", type=whole(0, 10**12)
    )
    dataset_resampled: bool = flag(False, "draw training shards with replacement, so that sources can have weights")
    train_data_upsampling_factors: str | None = flag(
        None, "how often the shards of each `::` source are drawn, such as 1::2; needs --dataset-resampled"
    )
    image_key: str = flag(
        "jpg;png;jpeg;webp", "suffixes of images in a shard; the first that a sample has is taken", metavar="SUFFIXES"
    )
    text_key: str = flag("txt", "suffixes of caption files in a shard, likewise", metavar="SUFFIXES")
    json_text_key: str | None = flag(
        None,
        "fields of a sample's .json that hold captions, in place of --text-key; of several one is drawn each time",
        metavar="FIELDS",
    )
    json_text_key_probs: str | None = flag(
        None, "how often each field of --json-text-key is drawn, such as 0.7;0.3 (default: evenly)", metavar="SHARES"
    )
    shard_order: str = flag(
        "exact",
        "exact: by seed, epoch and position alone, whatever the number of processes; buffer: streamed and shuffled in"
        " buffers as upstream does, needs the extra `shards`",
        choices=("exact", "buffer"),
    )
    shard_window: int = flag(
        100_000,
        "samples of neighbouring shards that are shuffled among each other; shards are shuffled too",
        type=whole(1),
    )
    shard_index_dir: str | None = flag(
        None,
        "folder for the lists of where samples stand in shards (default: beside them, or the user's cache folder)",
        type=path,
    )
    shard_cache: str | None = flag(
        None,
        "folder that keeps copies of shards from other machines (s3://, http://, obs:// ...), for all processes",
        type=path,
    )
    shard_cache_gb: float | None = flag(
        None,
        "size of --shard-cache in GB: the copies used longest ago go first; no limit if not given",
        type=ABOVE_ZERO,
    )
    allow_pipe_urls: bool = flag(
        False, "let a shard called `pipe:COMMAND` run its shell command; only for lists that you trust"
    )
