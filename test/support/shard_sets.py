"""Tar shards for tests, in the form img2dataset writes them: KEY.jpg, KEY.txt, KEY.json."""

import io
import json
import tarfile
from pathlib import Path

from PIL import Image


def image(colour=(10, 20, 30), form="PNG", size=(8, 8), mode="RGB"):
    """Return the bytes of an image."""
    held = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(held, form)
    return held.getvalue()


def write_tar(path, members):
    """Write (name, bytes) members in their order."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return Path(path)


def write_shard(path, count, form="png"):
    """Write a shard of ``count`` samples whose captions are ``SHARD_NUMBER``."""
    members = []
    stem = Path(path).stem
    for number in range(count):
        key = f"{stem}{number:04d}"
        members.append((f"{key}.{form}", image((number % 256, 0, 0))))
        members.append((f"{key}.txt", f"{stem}_{number}".encode()))
        members.append((f"{key}.json", json.dumps({"caption": f"{stem}_{number}"}).encode()))
    return write_tar(path, members)


def write_shards(folder, counts):
    """Write shards 00000.tar, 00001.tar, ... of so many samples and return the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(counts):
        write_shard(folder / f"{number:05d}.tar", count)
    return folder
