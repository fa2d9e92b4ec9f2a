"""The peer's tag table, zero-shot metadata and a classifier of a given model. Run by test_published.py."""

import json
import sys

import numpy as np
import torch

import open_clip

torch.set_num_threads(1)
with open(sys.argv[1]) as file:
    request = json.load(file)
if request["folder"]:
    model = open_clip.create_model("local-dir:" + request["folder"]).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=16)
    classes, templates = open_clip.IMAGENET_CLASSNAMES[:25], open_clip.OPENAI_IMAGENET_TEMPLATES[:9]
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, classes, templates).numpy()
else:
    classifier = np.zeros(0)
table = {
    "tags": {f"{m}:{t}": open_clip.get_pretrained_cfg(m, t) for m, t in open_clip.list_pretrained()},
    "classnames": open_clip.IMAGENET_CLASSNAMES,
    "templates": [t("x") for t in (*open_clip.OPENAI_IMAGENET_TEMPLATES, *open_clip.SIMPLE_IMAGENET_TEMPLATES)],
}
np.savez(sys.argv[2], classifier=classifier, table=np.array(json.dumps(table)))
