"""Make the inputs of a run once, as files that both sides read."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.captions import make_captions, read_captions
from benchmarks.images import make_images, read_images, write_tars
from benchmarks.settings import Settings, Values

_CAPTIONS, _IMAGES, _IMAGES_A_SHARD = 30_000, 256, 64


def make_inputs(names: Iterable[str], settings: Settings) -> None:
    """Write ``captions-MIX`` as a text file, ``tars-SIZE`` or ``tars-SIZExCOUNT`` as a folder of shards.

    What is there already stays.
    """
    for name in names:
        kind, _, what = name.partition("-")
        if (settings.path / name).exists():
            continue
        if kind == "captions":
            (settings.path / name).write_text("\n".join(_captions(what, settings)), encoding="utf-8")
        else:
            size, _, count = what.partition("x")
            images = _images(size, int(settings.sizes.get("images_made", count or _IMAGES)), settings)
            captions = _captions("short", settings)
            numbered = [f"{number} {captions[number % len(captions)]}" for number in range(len(images))]
            write_tars(settings.path / name, images, numbered, max(1, min(_IMAGES_A_SHARD, len(images) // 2)))


def load_captions(name: str, settings: Settings) -> list[str]:
    """Read captions that :func:`make_inputs` wrote."""
    return (settings.path / name).read_text(encoding="utf-8").split("\n")


def describe_inputs(settings: Settings) -> Values:
    """Say where captions and images come from."""
    return {
        "seed": settings.seed,
        "captions": Path(settings.captions).name if settings.captions else "made up",
        "images": Path(settings.images).name if settings.images else "made up",
    }


def _captions(mix: str, settings: Settings) -> list[str]:
    if settings.captions is not None:
        return read_captions(settings.captions)
    return make_captions(mix, int(settings.sizes.get("captions_made", _CAPTIONS)), settings.seed)


def _images(size: str, count: int, settings: Settings) -> list[bytes]:
    if settings.images is None:
        return make_images(size, count, settings.seed)
    found = read_images(settings.images)
    return [found[number % len(found)] for number in range(min(count, len(found)))]
