"""Small real image-and-caption sets for tests, from the set shipped under examples/.

Plain functions; nothing is written outside the folder a test gives.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.data import ImageField, RowDataset, TextField

EMOJI_DIR = Path(__file__).resolve().parents[2] / "examples" / "flickr30k-emoji"
IMAGES_DIR = EMOJI_DIR / "flickr30k-images"


def emoji_rows(num_images: int, captions: int = 5) -> list[tuple[str, str]]:
    """Return (absolute image path, caption) of the first images of the shipped set."""
    rows = []
    with open(EMOJI_DIR / "results_20130124.token", encoding="utf-8") as file:
        for line in file:
            name, caption = line.rstrip("\n").split("\t")
            image, number = name.split("#")
            if int(number) < captions:
                rows.append((str(IMAGES_DIR / image), caption))
            if len(rows) == num_images * captions:
                break
    return rows


def write_pairs(path: Path, rows: Sequence[tuple[str, str]], separator: str = "\t") -> Path:
    """Write rows as upstream's default file: header filepath, title."""
    lines = [f"filepath{separator}title", *(f"{image}{separator}{caption}" for image, caption in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class WordTokenizer:
    """Ids from the length of each word; 99 ends a text. Stands for any tokenizer with an end-of-text token."""

    eot_token_id = 99
    context_length = 24

    def __call__(self, texts: list[str]) -> torch.Tensor:
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = [min(len(word), 98) for word in text.split()][: self.context_length - 1]
            ids[row, : len(words) + 1] = torch.tensor([*words, self.eot_token_id])
        return ids


def crop_to_uint8(image: Image.Image, generator: torch.Generator | None = None, size: int = 32) -> torch.Tensor:
    """Crop at a random place and return uint8 [3, size, size]; draws from the generator as our transforms do."""
    image = image.convert("RGB").resize((size + 16, size + 16))
    left, top = torch.randint(0, 17, (2,), generator=generator).tolist()
    cropped = np.array(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(cropped).permute(2, 0, 1).contiguous()


IMAGES_OF_EMOJI = [image for image, _ in emoji_rows(20, captions=1)]


def pair_fields(transform, tokenizer, planner=None, **options):
    """Make the fields of a batch of images and captions."""
    return ImageField(transform, **options), TextField(tokenizer, planner=planner)


def pair_set(source, transform, tokenizer, seed=0, is_train=True, planner=None, **options):
    """Make a dataset of images and captions, the fields that the trainer's recipes for pairs have."""
    return RowDataset(source, pair_fields(transform, tokenizer, planner, **options), seed, is_train)
