"""Class names and prompt templates for zero-shot ImageNet. Building a classifier is ``zero_shot_classifier.py``'s job.

Source: open_clip.zero_shot_metadata (3.3.0), which has them from OpenAI CLIP's notebook; see NOTICE.
"""

import json
from collections.abc import Callable
from pathlib import Path

_DATA = json.loads(Path(__file__).with_name("zero_shot_imagenet.json").read_text(encoding="utf-8"))


def _callables(templates: list[str]) -> tuple[Callable[[str], str], ...]:
    return tuple(template.format for template in templates)


OPENAI_IMAGENET_TEMPLATES = _callables(_DATA["openai_templates"])
SIMPLE_IMAGENET_TEMPLATES = _callables(_DATA["simple_templates"])
IMAGENET_CLASSNAMES: tuple[str, ...] = tuple(_DATA["classnames"])
