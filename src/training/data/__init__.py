"""Pictures and captions from files to batches.

It knows nothing of models, tasks or devices.
"""

from training.data.batch import Batch
from training.data.classes import ClassNumbers, RgbFirst, read_class_folder
from training.data.csv import read_csv_pairs
from training.data.dataset import PairDataset
from training.data.decode import DEFAULT_MAX_PIXELS, PictureError, open_image
from training.data.folder import read_folder_pairs
from training.data.loader import EvalLoader, TrainLoader, make_eval_loader, make_train_loader
from training.data.order import epoch_order, rank_batch, rank_slice, sample_seed
from training.data.quarantine import Fault, Quarantine
from training.data.table import PairTable

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Batch",
    "ClassNumbers",
    "EvalLoader",
    "Fault",
    "PairDataset",
    "PairTable",
    "PictureError",
    "Quarantine",
    "RgbFirst",
    "TrainLoader",
    "epoch_order",
    "make_eval_loader",
    "make_train_loader",
    "open_image",
    "rank_batch",
    "rank_slice",
    "read_class_folder",
    "read_csv_pairs",
    "read_folder_pairs",
    "sample_seed",
]
