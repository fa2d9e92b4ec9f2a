"""Read a list of files with the peer's CsvDataset and answer with its images' names and captions."""

import json
import sys

import numpy as np

from open_clip_train.data import CsvDataset

asked, answered = sys.argv[1:]
with open(asked) as file:
    request = json.load(file)
arrays = {}
for number, (path, separator) in enumerate(request["lists"]):
    dataset = CsvDataset(path, lambda image: image, "filepath", "title", sep=separator, tokenizer=lambda texts: texts)
    arrays[f"paths_{number}"] = np.array(dataset.images)
    arrays[f"captions_{number}"] = np.array([dataset[row][1] for row in range(len(dataset))])
np.savez(answered, **arrays)
