"""How the HTML page draws a gallery: images with their best captions and captions with their best images.

Reads the gallery's JSON form, and trusts nothing in it: an image is shown only when it is an inline JPEG.
"""

import re
from collections.abc import Callable

from training.report.jsonl import Record
from training.report.markup import escape, user_text
from training.report.run_files import list_of, record_of, records_in

_INLINE_JPEG = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*")
_MAX_EXAMPLES = 100


def draw_gallery(gallery: Record) -> str:
    """Show both kinds of examples; an empty string without any."""
    # Older run folders say pictures.
    gallery = {str(name).replace("pictures", "images"): value for name, value in gallery.items()}
    thumbnails = record_of(gallery.get("thumbnails"))

    def show(key: object) -> str:
        return show_thumbnail(record_of(thumbnails.get(str(key))), f"image {key}")

    own_title = str(gallery.get("own_title") or "")
    images = [_image_example(one, show, own_title) for one in records_in(gallery.get("images"))[:_MAX_EXAMPLES]]
    captions = [_caption_example(one, show) for one in records_in(gallery.get("captions"))[:_MAX_EXAMPLES]]
    intro = (
        f"Examples spread over {_count(gallery, 'num_images')} images and {_count(gallery, 'num_texts')} texts, "
        "chosen so that both right and wrong ones are seen; how many of each says nothing of the recall. "
        "A right answer at place 4 counts in R@5, not in R@1. "
        "Scores are cosine similarities."
    )
    said, title = gallery.get("intro") or intro, gallery.get("images_title") or "Images and their best captions"
    if not images and not captions:
        return ""
    return "".join(
        [
            f'<p class="intro">{escape(said, 600)}</p>',
            f'<h3>{escape(title, 160)}</h3><div class="examples">{"".join(images)}</div>' if images else "",
            f'<h3>Captions and their best images</h3><div class="examples">{"".join(captions)}</div>'
            if captions
            else "",
        ]
    )


def show_thumbnail(thumbnail: Record, name: str) -> str:
    """Show a small image, or a frame with its name where the file holds no image that may be shown."""
    shown, uri = thumbnail.get("name", name), thumbnail.get("uri")
    if not isinstance(uri, str) or not _INLINE_JPEG.fullmatch(uri):
        return f'<span class="no-image">{escape(shown, 40)}<br>not readable</span>'
    return f'<img src="{uri}" alt="{escape(shown, 80)}" title="{escape(shown, 80)}" decoding="async">'


def _image_example(example: Record, show: Callable[[object], str], own_title: str) -> str:
    answers = "".join(
        f'<li class="{_side(match)}">{_mark(match)}'
        f'<span class="text" dir="auto">{user_text(match.get("content", ""))}</span>{_score(match)}</li>'
        for match in _matches(example)
    )
    own = list_of(example.get("own"))
    owned = "".join(f'<li dir="auto">{user_text(one)}</li>' for one in own)
    own_title = own_title or ("Its own caption" if len(own) == 1 else "Its own captions")
    fold = f"<details><summary>{escape(own_title, 160)}</summary><ul>{owned}</ul></details>" if owned else ""
    return (
        f'<article class="by-image"><div class="query">{show(example.get("query"))}</div>'
        f'<div>{_verdict(example)}<ol class="answers">{answers}</ol>{fold}</div></article>'
    )


def _caption_example(example: Record, show: Callable[[object], str]) -> str:
    matches = _matches(example)
    answers = [
        f'<li class="{_side(match)}">{show(match.get("content"))}<p>{_mark(match)}{_score(match)}</p></li>'
        for match in matches
    ]
    own = list_of(example.get("own"))
    if own and not any(match.get("is_right") is True for match in matches):
        answers.append(f'<li class="own">{show(own[0])}<p>its image</p></li>')
    return (
        f'<article class="by-caption">{_verdict(example)}'
        f'<blockquote dir="auto">{user_text(example.get("query", ""))}</blockquote>'
        f'<ol class="strip">{"".join(answers)}</ol></article>'
    )


def _verdict(example: Record) -> str:
    matches = _matches(example)
    place = next((index for index, one in enumerate(matches, start=1) if one.get("is_right") is True), None)
    if place == 1:
        side, said = "right", "\u2713 right at first"
    elif place is not None:
        # No miss: it counts in the recall at this place and beyond.
        side, said = "later", f"\u2713 right at place {place}"
    else:
        side, said = "wrong", f"\u2717 not among the best {len(matches)}"
    return f'<p class="verdict {side}">{said}</p>'


def _side(item: Record) -> str:
    return "right" if item.get("is_right") is True else "wrong"


def _mark(match: Record) -> str:
    symbol = "\u2713" if _side(match) == "right" else "\u2717"
    return f'<span class="mark" aria-hidden="true">{symbol}</span><span class="unseen">{_side(match)}: </span>'


def _score(match: Record) -> str:
    score = match.get("score")
    return f'<span class="score">{score:.3f}</span>' if isinstance(score, int | float) else ""


def _matches(example: Record) -> list[Record]:
    return records_in(example.get("matches"))[:_MAX_EXAMPLES]


def _count(gallery: Record, key: str) -> str:
    count = gallery.get(key)
    return f"{count:,}" if isinstance(count, int) else "the"
