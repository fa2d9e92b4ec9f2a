"""Image files: where they lie, and reading one safely.

It leaves the mode (palette, grey, CMYK, alpha) and the EXIF rotation alone: the transform converts, as upstream does.
"""

import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar

from PIL import Image, UnidentifiedImageError

from open_clip.errors import DataError, printable
from open_clip.files import open_plain
from open_clip.transform.direct import ImageLike
from training.data.fast_jpeg import load_jpeg_decoder
from training.data.quarantine import one_line

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
DEFAULT_MAX_PIXELS: Final = 25_000_000
# Formats outside this list include some that start other programs (EPS) or read other files.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_FILE_BYTES: Final = 256 * 1024 * 1024

_Read = TypeVar("_Read")


class ImageError(DataError):
    """One image cannot be used; the text is the reason, in one line."""


def why_not_a_file(path: str) -> str | None:
    """Say in a few words why a path is not a regular file that could be opened; None when it is one."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "image not found"
    except (OSError, ValueError) as error:
        return f"image cannot be reached: {one_line(error)}"
    return None if stat.S_ISREG(mode) else f"not an image file but {_kind(mode)}"


class ImageFinder:
    """Finds the images a list names and checks each path once.

    Relative paths are taken from the current directory, as upstream does, then from the list's own folder.
    """

    def __init__(self, list_dir: str) -> None:
        self._list_dir = list_dir
        self._known: dict[str, tuple[str, str | None]] = {}

    def find(self, path: str) -> tuple[str, str | None]:
        """Return the path to open and None, or the path as given and the reason it cannot be used."""
        found = self._known.get(path)
        if found is None:
            found = self._known[path] = self._look_up(path)
        return found

    def _look_up(self, path: str) -> tuple[str, str | None]:
        reason = why_not_a_file(path) if path.strip() else "no image path"
        if reason is None or not path.strip() or os.path.isabs(path):
            return path, reason
        beside = os.path.join(self._list_dir, path)
        beside_reason = why_not_a_file(beside)
        if beside_reason is None:
            return beside, None
        folders = dict.fromkeys((os.getcwd(), os.path.abspath(self._list_dir)))
        return path, f"{reason} (looked in {' and '.join(map(printable, folders))})"


class StoredImage(ABC):
    """One image that a source holds, found but not yet decoded."""

    @abstractmethod
    def open(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
        """Decode the first frame with Pillow, whole or not at all.

        Args:
            max_pixels: limit on width x height, checked in the header before anything is decoded.

        Raises:
            ImageError: the file is missing, not an image, too large, torn or broken.
        """

    def open_pixels(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageLike:
        """Decode it for a `DirectTransform`: where that is faster, to the pixels [H, W, 3] that Pillow would give.

        An array belongs to the thread: the next image that it reads may overwrite it.

        Raises:
            ImageError: as `open`.
        """
        return self.open(max_pixels)


class ImageFile(StoredImage):
    """An image in a file of its own.

    Args:
        path: JPEG, PNG, WebP, BMP, GIF or TIFF file; anything but a regular file is refused unopened.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
        """Decode it with Pillow."""
        with _open_file(self.path) as file:
            return _read(file, os.fstat(file.fileno()).st_size, max_pixels, _load_image)

    def open_pixels(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageLike:
        """Decode it for a `DirectTransform`."""
        with _open_file(self.path) as file:
            return _read(file, os.fstat(file.fileno()).st_size, max_pixels, _load_pixels)


class ImageBytes(StoredImage):
    """An image whose file is in memory.

    Args:
        content: the file; empty where it was over the limit and not read.
        num_bytes: its size where it was not read.
    """

    def __init__(self, content: bytes, num_bytes: int | None = None) -> None:
        self._content = content
        self._num_bytes = len(content) if num_bytes is None else num_bytes

    def open(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
        """Decode it with Pillow."""
        return _read(io.BytesIO(self._content), self._num_bytes, max_pixels, _load_image)

    def open_pixels(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageLike:
        """Decode it for a `DirectTransform`."""
        return _read(io.BytesIO(self._content), self._num_bytes, max_pixels, _load_pixels)


def _open_file(path: str) -> BinaryIO:
    reason = why_not_a_file(path)
    if reason is not None:
        raise ImageError(reason)
    try:
        return open_plain(path)
    except OSError as error:
        raise ImageError(f"image cannot be opened: {one_line(error)}") from None


def _read(file: BinaryIO, num_bytes: int, max_pixels: int, load: Callable[[Image.Image, BinaryIO], _Read]) -> _Read:
    if num_bytes == 0:
        raise ImageError("image file is empty")
    if num_bytes > MAX_FILE_BYTES:
        raise ImageError(f"image file of {num_bytes:,} bytes is over the limit of {MAX_FILE_BYTES:,}")
    try:
        image = Image.open(file, formats=_FORMATS)
        num_pixels = image.width * image.height
        if num_pixels <= max_pixels:
            return load(image, file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"image is far over the limit of {max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageError("not an image in a format that is read (JPEG, PNG, WebP, BMP, GIF, TIFF)") from None
    # Broken files make Pillow's readers raise nearly anything; each becomes one named reason.
    except Exception as error:
        raise ImageError(f"image is torn or broken: {one_line(error)}") from None
    raise ImageError(
        f"image of {image.width} x {image.height} = {num_pixels:,} pixels is over the limit of {max_pixels:,}"
    )


def _load_image(image: Image.Image, file: BinaryIO) -> Image.Image:
    image.load()
    return image


def _load_pixels(image: Image.Image, file: BinaryIO) -> ImageLike:
    """Load a JPEG whose header Pillow has accepted by the fast decoder; what that one objects to, Pillow judges."""
    decode = load_jpeg_decoder()
    if decode is not None and image.format == "JPEG" and image.mode == "RGB":
        position = file.tell()
        file.seek(0)
        pixels = decode(file.read(), image.width, image.height)
        if pixels is not None:
            return pixels
        file.seek(position)
    return _load_image(image, file)


def _kind(mode: int) -> str:
    names = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a fifo"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in names if test(mode)), "a device")


def find_images(folder: str) -> list[str]:
    """List the image files of a folder and its sub-folders by their names, sorted; opens none."""
    found = []
    for root, _, names in os.walk(folder):
        found += [os.path.join(root, name) for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    return sorted(found)
