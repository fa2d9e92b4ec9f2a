"""The recipe nxtp with a vocabulary of whole words, which needs no package, and drawn images with their labels."""

import csv
import random
from functools import cache

from label_words import make_label_tokenizer
from pairs import COLOURS, SHAPES, draw_image, micro_flags
from training.tasks.nxtp import NxtpTask

VOCABULARY = 400  # as the model nxtp-tiny has it


@cache
def words_tokenizer():
    """Make a tokenizer of the labels of drawn images, filled up to the size of the model's table."""
    words = [*COLOURS, *SHAPES, "image", "is", "that"]
    size = make_label_tokenizer(*words).vocab_size
    return make_label_tokenizer(*words, *(f"filler{number}" for number in range(VOCABULARY - size)))


class WordsTask(NxtpTask):
    """Reads no tokenizer's file."""

    name = "nxtp-words"

    @classmethod
    def open_tokenizer(cls, params):
        return words_tokenizer()


def make_labelled(folder, num_images=32, seed=0, name="labelled.csv"):
    """Draw shapes on coloured grounds; the column ``labels`` names both colours and the shape."""
    images = folder / f"images-{name}"
    images.mkdir(parents=True)
    rng = random.Random(seed)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["img_key", "caption_key", "labels"])
        for number in range(num_images):
            colour, ground = rng.sample(sorted(COLOURS), 2)
            shape = rng.choice(SHAPES)
            draw_image(images / f"{number}.png", colour, shape, ground, rng)
            caption = f"A {colour} {shape} on a {ground} ground"
            writer.writerow([images / f"{number}.png", caption, f"{colour}, {shape}, {ground}"])
    return folder / name


def label_flags(train, val, **flags):
    """Spell the flags of a run with ready labels; keywords override and add."""
    chosen = {"task": f"{__file__}:WordsTask", "model": "nxtp-tiny", "label_column": "labels", "topk": 3, **flags}
    return micro_flags(train, val, **chosen)
