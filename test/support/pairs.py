"""Makers of small real image-and-caption files: drawn images whose captions say what is on them."""

import csv
import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 200), "yellow": (230, 210, 60)}
SHAPES = ("circle", "square", "bar")


def draw_image(path, colour, shape, ground, rng, size=48):
    """Draw one shape on a coloured ground and save it as a JPEG."""
    image = Image.new("RGB", (size, size), COLOURS[ground])
    draw = ImageDraw.Draw(image)
    left, top = rng.randrange(4, size // 3), rng.randrange(4, size // 3)
    right, bottom = left + size // 2, top + size // 2
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=COLOURS[colour])
    else:
        draw.rectangle((left, top, left + 6, bottom), fill=COLOURS[colour])
    image.save(path, "JPEG", quality=90)


def make_pairs(folder, num_images=24, captions_each=2, seed=0, name="pairs.csv"):
    """Make images and a comma-separated table of them.

    Returns:
        Path of the table; its columns are ``img_key`` and ``caption_key``.
    """
    folder = Path(folder)
    images = folder / f"images-{Path(name).stem}"
    images.mkdir(parents=True)
    rng = random.Random(seed)
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["img_key", "caption_key"])
        for number in range(num_images):
            colour, ground = rng.sample(sorted(COLOURS), 2)
            shape = rng.choice(SHAPES)
            image = images / f"{number:05d}.jpg"
            draw_image(image, colour, shape, ground, rng)
            for k in range(captions_each):
                words = ("a", "one", "the", "this", "some")[k % 5]
                writer.writerow([str(image), f"{words} {colour} {shape} on {ground} ground, number {number}"])
    return path


CSV_FLAGS = ["--csv-separator", ",", "--csv-img-key", "img_key", "--csv-caption-key", "caption_key"]


def micro_flags(train=None, val=None, **flags):
    """Spell the flags of a run of seconds on the CPU; keywords override and add flags, None leaves one out."""
    chosen = {
        "model": "ViT-micro-8-32",
        "device": "cpu",
        "precision": "fp32",
        "batch-size": 8,
        "workers": 0,
        "epochs": 2,
        "warmup": 2,
        "lr": 1e-3,
        "log-every-n-steps": 1,
        "gallery-size": 2,
    }
    chosen.update({key.replace("_", "-"): value for key, value in flags.items()})
    words = list(CSV_FLAGS)
    if train is not None:
        words += ["--train-data", str(train)]
    if val is not None:
        words += ["--val-data", str(val)]
    for key, value in chosen.items():
        if value is True:
            words.append(f"--{key}")
        elif value is not None and value is not False:
            words += [f"--{key}", str(value)]
    return words
