"""ImageNet-1k: 1,281,167 images, whose captions are their labels; 5 epochs."""

from copy import deepcopy

from configs.config_g3m import cfg as g3m

cfg = deepcopy(g3m)
cfg.exp_code = "in1k"
cfg.data_name = ("in1k",)
cfg.eval_data_name = "in1k_valid"
cfg.skip_extract_nouns = True
cfg.epochs = 5
