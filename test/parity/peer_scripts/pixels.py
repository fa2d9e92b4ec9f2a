"""Transform images with open_clip_torch: JSON {files, cases: [{name, seed, options}]} to npz by name and file number.

Each answer holds the pixels; `NAME/draws` what the two generators give after the last image.
"""

import inspect
import json
import random
import sys
import warnings

import numpy as np
import torch
from PIL import Image

from open_clip.transform import AugmentationCfg, image_transform


def main(asked: str, answered: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    answers = {"source": np.array(inspect.getsourcefile(image_transform))}
    with open(asked) as file:
        request = json.load(file)
    for case in request["cases"]:
        options = dict(case["options"])
        if "aug_cfg" in options:
            options["aug_cfg"] = AugmentationCfg(**options["aug_cfg"])
        transform = image_transform(**options)
        random.seed(case["seed"])
        torch.manual_seed(case["seed"])
        np.random.seed(case["seed"])
        for number, path in enumerate(request["files"]):
            with Image.open(path) as image:
                try:
                    answers[f"{case['name']}/{number}"] = transform(image).numpy()
                except Exception as error:
                    answers[f"{case['name']}/{number}"] = np.array(repr(error))
        answers[f"{case['name']}/draws"] = np.array([random.random(), torch.rand(1).item()])
    np.savez(answered, **answers)


main(*sys.argv[1:])
