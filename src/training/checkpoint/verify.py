"""Read checkpoints only as they were written: every byte is compared before anything is used."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from open_clip.checkpoint import read_checkpoint
from open_clip.errors import CheckpointError, printable
from training.checkpoint.digest import PIECE_BYTES, Digest, digest_file
from training.checkpoint.find import LATEST, list_checkpoints, order_names
from training.checkpoint.folders import read_folder
from training.checkpoint.manifest import MANIFEST, Manifest
from training.checkpoint.schema import FOLDER, Payload, check_payload

Fetch = Callable[[str], bool]


def read_verified(path: Path, *, is_verifier: bool = True) -> Payload:
    """Read a checkpoint and compare it with what the manifest beside it says was written.

    The comparison runs beside the reading. A file without an entry (upstream's, or one copied here) is held to the
    checksums inside it; a folder of shards to the manifest in it, and its payload says where the tensors are.

    Args:
        path: The checkpoint.
        is_verifier: False where another process of this machine compares the same file.

    Raises:
        CheckpointError: When it is missing, differs from its entry, is damaged, would run code, or holds something
            else than a trainer writes.
    """
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: cannot be read ({error.strerror}). Look at its rights.") from error
    if is_folder:
        return read_folder(path, is_verified=not is_verifier)
    payload = _read_file(path) if is_verifier else read_checkpoint(path, is_verified=True)
    if FOLDER in payload:
        raise CheckpointError(f"{printable(path)}: its entry {FOLDER} is what no file has. Take another checkpoint.")
    return check_payload(payload, path)


def read_newest(
    folder: Path, on_damaged: Callable[[str], None], *, elsewhere: Sequence[str] = (), fetch: Fetch | None = None
) -> tuple[Path, Payload] | None:
    """Read the newest good checkpoint of a folder.

    Args:
        folder: A run's checkpoint folder.
        on_damaged: Told, in one line, of each newer file that had to be passed over.
        elsewhere: Names of checkpoints that a remote copy of the folder holds.
        fetch: Brings one of those here; tells whether it could.

    Returns:
        Path and payload, or None when there is no checkpoint at all.

    Raises:
        CheckpointError: When there are checkpoints and none is good.
    """
    here = [path.name for path in list_checkpoints(folder)]
    names = _merge(here, elsewhere)
    for name in reversed(names):
        found = _read_here_or_fetched(folder / name, on_damaged, fetch if name in elsewhere else None)
        if found is not None:
            return folder / name, found
    if names:
        raise CheckpointError(
            f"none of the {len(names)} checkpoints in {printable(folder)} is good; start a new run (--name)."
        )
    return None


def _read_file(path: Path) -> Payload:
    manifest = Manifest(path.parent)
    known = manifest.of(path.name)
    if not known or not path.is_file():
        return read_checkpoint(path)
    size = path.stat().st_size
    if size not in [record.size for record in known]:
        raise CheckpointError(
            f"{printable(path)}: its size is {size} bytes and was {known[-1].size} when it was written ({MANIFEST}): "
            f"it is cut short, grown or another file.{_way_out()}"
        )
    with ThreadPoolExecutor(max_workers=1) as pool:
        digesting = pool.submit(digest_file, path)
        payload: Payload | None = None
        failure: CheckpointError | None = None
        try:
            payload = read_checkpoint(path, is_verified=True)
        except CheckpointError as error:
            failure = error
        try:
            digest = digesting.result()
        except OSError as error:
            raise CheckpointError(
                f"{printable(path)}: cannot be read ({error.strerror or error}).{_way_out()}"
            ) from error
    if digest not in [record.digest for record in known]:
        raise CheckpointError(f"{printable(path)}: {_difference(digest, path.name, manifest)}{_way_out()}")
    if payload is None:
        assert failure is not None
        raise failure
    return payload


def _merge(here: list[str], elsewhere: Sequence[str]) -> list[str]:
    names = order_names({*here, *elsewhere})
    if LATEST in here:
        before = here[: here.index(LATEST)]
        names.insert(names.index(before[-1]) + 1 if before else 0, LATEST)
    return names


def _read_here_or_fetched(path: Path, on_damaged: Callable[[str], None], fetch: Fetch | None) -> Payload | None:
    if path.exists():
        try:
            return read_verified(path)
        except CheckpointError as error:
            on_damaged(f"{error} Trying {'its remote copy' if fetch else 'the one before it'}.")
    if fetch is not None and fetch(path.name):
        try:
            return read_verified(path)
        except CheckpointError as error:
            on_damaged(f"{error} Trying the one before it.")
    return None


def _difference(digest: Digest, name: str, manifest: Manifest) -> str:
    twin = manifest.name_of(digest)
    if twin is not None:
        return f"it holds what was written as {printable(twin, 200)} ({MANIFEST}, sha256)."
    known = manifest.of(name)[-1]
    pairs = zip(digest.sha256, known.sha256, strict=False)
    place = next((place for place, (is_now, was) in enumerate(pairs) if is_now != was), 0)
    last = min((place + 1) * PIECE_BYTES, digest.size)
    return f"bytes {place * PIECE_BYTES} to {last} are not those that were written ({MANIFEST}, sha256)."


def _way_out() -> str:
    return f" Take another checkpoint; if you replaced it yourself, delete {MANIFEST}."
