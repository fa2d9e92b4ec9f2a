"""Read our trainer's checkpoint, and train on from it with the peer's trainer; answers with features and figures."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import open_clip
from open_clip_train.main import main

asked, answered = sys.argv[1:]
request = json.loads(Path(asked).read_text())
torch.set_num_threads(1)
open_clip.add_model_config(request["config"])
if request["flags"]:
    main(request["flags"])
answer = {}
if request["weights"]:
    model = open_clip.create_model(request["model"], pretrained=request["weights"]).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    texts = open_clip.get_tokenizer(request["model"])(request["captions"])
    with torch.no_grad():
        answer["image_features"] = model.encode_image(images).numpy()
        answer["text_features"] = model.encode_text(texts).numpy()
np.savez(answered, **answer)
