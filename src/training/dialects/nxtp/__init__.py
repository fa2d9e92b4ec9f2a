"""NXTP's commands: its config files in Python, its names of data sets and its log, said in this trainer's words."""

from training.dialects.nxtp.commands import eval_hook as eval_hook
from training.dialects.nxtp.commands import evaluate as evaluate
from training.dialects.nxtp.commands import train as train
from training.dialects.nxtp.datasets import Datasets as Datasets
from training.dialects.nxtp.settings import Settings as Settings
