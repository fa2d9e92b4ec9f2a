"""Images and captions from files to batches.

It knows nothing of models, tasks or devices.
"""

from training.data.batch import Batch
from training.data.classes import list_classes, read_class_folder, rgb_first
from training.data.csv import read_csv_pairs
from training.data.dataset import RowDataset
from training.data.decode import ImageBytes, ImageError, ImageFile, StoredImage
from training.data.fields import IMAGES, TEXTS, Field, Row, TextField, columns_of, image_columns_of, name_field
from training.data.fingerprint import name_changes
from training.data.images import ImageField
from training.data.kind import SourceKind, SourceRequest
from training.data.kit import FieldKit
from training.data.loader import EvalLoader, TrainLoader, make_eval_loader, make_train_loader
from training.data.order import epoch_order, rank_slice, sample_seed
from training.data.quarantine import Fault, Quarantine
from training.data.sides import Captions
from training.data.source import Source, read_image, read_text
from training.data.sources import find_kind, open_source
from training.data.synthetic import SyntheticTable
from training.data.table import PairTable
from training.data.texts import ReadingRule, TextPlanner, plan_lengths, text_lengths
from training.data.upstream.data_info import DataInfo
from training.data.upstream.loaders import (
    count_samples,
    get_csv_dataset,
    get_data,
    get_dataset_fn,
    get_imagenet,
    get_synthetic_dataset,
)
from training.data.upstream.pair_datasets import CsvDataset, SyntheticDataset, preprocess_txt
from training.data.upstream.shard_order import ResampledShards2, SharedEpoch, detshuffle2, pytorch_worker_seed
from training.data.upstream.stream_loader import StreamLoader
from training.data.upstream.streaming import get_wds_dataset
from training.data.upstream.tar_samples import (
    base_plus_ext,
    filter_no_caption_or_no_image,
    group_by_keys_nothrow,
    log_and_continue,
    tarfile_to_samples_nothrow,
)
from training.data.urls import expand_urls, get_dataset_size
from training.data.values import ArrayField, LabelField, NumberField

__all__ = [
    "IMAGES",
    "TEXTS",
    "ArrayField",
    "Batch",
    "Captions",
    "CsvDataset",
    "DataInfo",
    "EvalLoader",
    "Fault",
    "Field",
    "FieldKit",
    "ImageBytes",
    "ImageError",
    "ImageField",
    "ImageFile",
    "LabelField",
    "NumberField",
    "PairTable",
    "Quarantine",
    "ReadingRule",
    "ResampledShards2",
    "Row",
    "RowDataset",
    "SharedEpoch",
    "Source",
    "SourceKind",
    "SourceRequest",
    "StoredImage",
    "StreamLoader",
    "SyntheticDataset",
    "SyntheticTable",
    "TextField",
    "TextPlanner",
    "TrainLoader",
    "base_plus_ext",
    "columns_of",
    "count_samples",
    "detshuffle2",
    "epoch_order",
    "expand_urls",
    "filter_no_caption_or_no_image",
    "find_kind",
    "get_csv_dataset",
    "get_data",
    "get_dataset_fn",
    "get_dataset_size",
    "get_imagenet",
    "get_synthetic_dataset",
    "get_wds_dataset",
    "image_columns_of",
    "group_by_keys_nothrow",
    "list_classes",
    "log_and_continue",
    "make_eval_loader",
    "make_train_loader",
    "name_changes",
    "name_field",
    "open_source",
    "plan_lengths",
    "preprocess_txt",
    "pytorch_worker_seed",
    "rank_slice",
    "read_class_folder",
    "read_csv_pairs",
    "read_image",
    "read_text",
    "rgb_first",
    "sample_seed",
    "tarfile_to_samples_nothrow",
    "text_lengths",
]
