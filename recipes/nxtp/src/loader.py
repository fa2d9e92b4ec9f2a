"""Data sets by name: a folder of tar shards below `data_root`, and how many pairs it has (None: they are counted)."""

from training.dialects.nxtp import Datasets

_DATASETS_META = Datasets(
    cc3m_valid={"length": 12_478, "root": "cc3m/cc3m_valid"},
    coco_valid={"length": 5_000, "root": "coco/coco_valid"},
    openimages_v7_valid={"length": 41_686, "root": "openimages_v7/openimages_v7_valid"},
    in1k_valid={"length": 50_000, "root": "in1k/in1k_valid"},
    cc3m={"length": 2_698_118, "root": "cc3m/cc3m_train"},
    sbu={"length": 828_816, "root": "sbu/sbu_train"},
    coco={"length": 118_287, "root": "coco/coco_train"},
    laion115m={"length": 67_034_168, "root": "laion115m/laion115m_train"},
    in1k={"length": 1_281_167, "root": "in1k/in1k_train"},
)
register_dataset = _DATASETS_META.register
