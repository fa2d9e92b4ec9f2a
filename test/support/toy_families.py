"""Families that a program adds: images alone, texts alone, and three encoders."""

import contextlib
import json

from torch import nn

import open_clip
from open_clip import families
from open_clip.factory.names import model_registry
from open_clip.families.base import Family
from open_clip.transformer.freezing import unlock_last_groups


class Encoder(nn.Module):
    """An image tower in three layers."""

    def __init__(self, width, image_size=8):
        super().__init__()
        self.image_size, self.output_dim = image_size, width
        self.stem = nn.Conv2d(3, width, image_size)
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, width)

    def forward(self, image):
        return self.head(self.body(self.stem(image).flatten(1)).relu())

    def layer_groups(self):
        return [[self.stem], [self.body], [self.head]]


class ImageOnly(nn.Module):
    """An image encoder, without texts and without a temperature."""

    def __init__(self, width, depth_scale=1.0):
        super().__init__()
        self.visual = Encoder(width)
        self.depth_scale = depth_scale

    def encode_image(self, image, normalize=False):
        features = self.visual(image) * self.depth_scale
        return nn.functional.normalize(features, dim=-1) if normalize else features

    def layer_groups(self):
        return {"image": self.visual.layer_groups()}

    def lock_image_tower(self, unlocked_groups=0, freeze_bn_stats=False):
        unlock_last_groups(self.visual.layer_groups(), unlocked_groups)

    def convert_weights(self, state_dict):
        return {key.replace("backbone.", "visual."): value for key, value in state_dict.items()}


class ImageFamily(Family):
    name = "image_only"
    model_class = ImageOnly


class TextOnly(nn.Module):
    """A text encoder, without images."""

    def __init__(self, width):
        super().__init__()
        self.table = nn.EmbeddingBag(100, width)

    def encode_text(self, text, normalize=False):
        features = self.table(text)
        return nn.functional.normalize(features, dim=-1) if normalize else features


class TextFamily(Family):
    name = "text_only"
    model_class = TextOnly


class ThreeEncoders(ImageOnly):
    """Images, texts, and a second view of images with a tower of its own."""

    def __init__(self, width, words):
        super().__init__(width)
        self.second = Encoder(width)
        self.words = nn.EmbeddingBag(words, width)

    def encode_text(self, text, normalize=False):
        return self.words(text)

    def encode_second(self, image):
        return self.second(image)

    def layer_groups(self):
        return super().layer_groups() | {"second": self.second.layer_groups(), "text": [[self.words]]}


class ThreeFamily(Family):
    name = "three_encoders"
    model_class = ThreeEncoders


@contextlib.contextmanager
def added(path):
    """Give a function that adds a family, and a model of it named as the file is; both go when this is left."""
    registered, known = dict(families._REGISTERED), dict(model_registry())

    def add(family, config):
        families.register(family)
        path.write_text(json.dumps({"family": family.name} | config))
        open_clip.add_model_config(path)

    try:
        yield add
    finally:
        for kept, now in ((registered, families._REGISTERED), (known, model_registry())):
            now.clear()
            now.update(kept)
