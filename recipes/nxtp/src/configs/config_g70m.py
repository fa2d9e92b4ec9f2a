"""G70M: G3M's data and LAION's 67 million synthetic captions, 70,679,389 pairs; all else as in G3M."""

from copy import deepcopy

from configs.config_g3m import cfg as g3m

cfg = deepcopy(g3m)
cfg.exp_code = "g70m"
cfg.data_name = ("cc3m", "sbu", "coco", "laion115m")
