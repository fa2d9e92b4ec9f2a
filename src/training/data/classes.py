"""Images sorted into one folder a class, as ImageNet is; the table's texts are the names of the class folders.

Knows no class names that people read, and reads no images.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final

from open_clip.errors import DataError, printable
from open_clip.transform import Compose, ConvertMode
from training.data.beside import Beside, rows_of
from training.data.decode import find_images, why_not_a_file
from training.data.folder import finish_images
from training.data.kind import SourceKind, SourceRequest
from training.data.members import MemberColumn
from training.data.source import IMAGE, TEXT, refuse_missing
from training.data.table import PairTable, TableBuilder

LABEL: Final = "label"
_NUM_TRIED: Final = 8
_OWN: Final = (IMAGE, TEXT, LABEL)


class ClassFolderKind(SourceKind):
    """``classes``: a folder of class folders; ``auto`` takes one where class numbers are read."""

    def claims(self, request: SourceRequest) -> bool:
        """Take a folder of folders of images and nothing beside them, where the numbers of its classes are read."""
        if LABEL not in request.columns or request.own_name(LABEL) is not None or not os.path.isdir(request.path):
            return False
        classes = _list_classes(request.path)
        images = find_images(os.path.join(request.path, min(classes))) if classes else []
        return bool(images) and all(len(Beside(image).suffixes()) == 1 for image in images[:_NUM_TRIED])

    def check(self, request: SourceRequest) -> None:
        """Check that there are class folders, and that they give what is asked for; looks at no image."""
        unnamed = [name for name in request.columns if request.own_name(name) is None]
        refuse_missing(request.path, unnamed, _OWN)
        if not os.path.isdir(request.path) or not _list_classes(request.path):
            read_class_folder(request.path)

    def open(self, request: SourceRequest) -> PairTable:
        """Read the folder."""
        own_names = {name: request.own_name(name) for name in request.columns}
        files = [MemberColumn.named(name, own) for name, own in own_names.items() if own is not None]
        return read_class_folder(request.path, files=files)[0]


def read_class_folder(
    path: str | os.PathLike[str], by_number: bool = False, files: Sequence[MemberColumn] = ()
) -> tuple[PairTable, list[str]]:
    """Read the images of a folder of class folders, sub-folders included.

    Args:
        by_number: every class folder is called by its number.
        files: columns of files beside the images; one may take the place of ``text`` or ``label``.

    Returns:
        The images, with the name of its class folder as ``text`` and its number as ``label``; and the names of the
        class folders in their order, of numbers where all are numbers.

    Raises:
        DataError: there is no such folder, it has no class folders, or one of them has no images.
        MissingColumns: no image has a file that a column needs, or what the column needs in it.

    Source: torchvision.datasets.ImageFolder (the order of classes but numbers, where it puts 10 before 2).
    """
    path = os.fspath(path)
    classes = list_classes(path)
    if by_number:
        named = [name for name in classes if not (name.isascii() and name.isdecimal())]
        if named:
            raise DataError(
                f"{printable(path)}: the class folder {named[0]!r} is not a number; they are called 0, 1, 2, ..."
            )
    builder, row, found = TableBuilder(path, _OWN, files), 0, list[str]()
    for number, name in enumerate(classes):
        images = rows_of(find_images(os.path.join(path, name)), files)
        found += images
        if not images:
            raise DataError(f"{printable(os.path.join(path, name))}: this class folder holds no images.")
        for image in images:
            row += 1
            shown = printable(image)
            problem = why_not_a_file(image) if shown == image else "image path is not valid text; rename the file"
            problem = problem or Beside(image).why_not(files)
            if problem is None:
                builder.add(row, image, name, str(number))
            else:
                builder.refuse(row, shown, problem)
    table = finish_images(builder, found)
    table.classes = tuple(classes)
    return table, classes


def list_classes(path: str) -> list[str]:
    """List the class folders of a folder in the order of their numbers: by name, numbers by value where all are.

    Raises:
        DataError: there is no such folder, or it has no class folders.
    """
    if not os.path.isdir(path):
        raise DataError(
            f"{printable(path)} is not a folder. Give the folder that holds one folder of images for each class."
        )
    classes = _list_classes(path)
    if not classes:
        raise DataError(f"{printable(path)} holds no class folders, one folder of images for each class.")
    are_numbers = all(name.isascii() and name.isdecimal() for name in classes)
    return sorted(classes, key=lambda name: (int(name) if are_numbers else 0, name))


def _list_classes(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def rgb_first(transform: Callable[..., object]) -> Compose:
    """Put the turn to RGB in front of a transform, as ImageFolder hands images out: it comes after the resize else."""
    steps = transform.transforms if type(transform) is Compose else [transform]
    return Compose([ConvertMode(), *steps])
