"""What a run keeps in another place and takes from there, as the flags say; how files travel is `checkpoint`'s."""

import contextlib
import logging
import shutil
import tempfile
from pathlib import Path

from open_clip.errors import CheckpointError, ConfigError, printable
from training.checkpoint import Payload, RemoteFolder, RemoteSync, fetch_file, read_newest, read_verified
from training.distributed import World, barrier, broadcast_object, gather_objects
from training.params import CheckpointParams
from training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


def open_remote(params: CheckpointParams, folder: RunFolder) -> RemoteFolder | None:
    """Find the remote copy of the run folder; None without ``--remote-sync``.

    Raises:
        ConfigError: When the address does not fit ``--remote-sync-protocol``, or its package is missing.
    """
    if params.remote_sync is None or folder.root is None:
        return None
    return RemoteFolder(params.remote_sync, folder.name, params.remote_sync_protocol)


def take_up(params: CheckpointParams, folder: RunFolder) -> None:
    """Bring the records of a run that goes on here, and refuse to start another over one that is there; for the master.

    Raises:
        ConfigError: When a run of this name is there already and ``--resume`` was not given.
        CheckpointError: When the place cannot be reached.
    """
    remote = open_remote(params, folder)
    if remote is None or folder.root is None:
        return
    if params.resume is not None:
        remote.fetch_records(folder.root)
    elif "out.log" in remote.list_files():
        raise ConfigError(
            f"a run named {printable(folder.name)} is already in {printable(remote.address)}. Give "
            "another --name, or --resume latest to go on with it."
        )


def keep_copy(
    params: CheckpointParams, folder: RunFolder, world: World
) -> contextlib.AbstractContextManager[RemoteSync | None]:
    """Open the context in which the master keeps the remote copy up to date."""
    remote = open_remote(params, folder) if world.is_master else None
    if remote is None or folder.root is None:
        return contextlib.nullcontext()
    return RemoteSync(remote, folder.root, params.remote_sync_frequency)


def read_latest(params: CheckpointParams, folder: RunFolder, world: World) -> tuple[Path, Payload] | None:
    """Read the newest good checkpoint of a run, here or in its remote copy; all processes read the same.

    Returns:
        Path and payload; None when there is no checkpoint at all.

    Raises:
        CheckpointError: When there are checkpoints and none is good.
    """
    checkpoints, remote = folder.checkpoints, open_remote(params, folder)
    assert checkpoints is not None
    path, payload = None, None
    # The master chooses, so that all processes go on from one file even while others are being written or removed.
    if world.is_master:
        found = read_newest(
            checkpoints,
            on_damaged=lambda message: _LOG.warning("%s", message),
            elsewhere=[] if remote is None else remote.list_checkpoints(),
            fetch=None if remote is None else lambda name: remote.fetch_checkpoint(name, checkpoints),
        )
        path, payload = found if found is not None else (None, None)
    path = broadcast_object(path, world)
    if path is None:
        return None
    if remote is not None:
        # A machine that does not see the master's disk has its own copy brought.
        if world.local_rank == 0 and not path.exists():
            remote.fetch_checkpoint(path.name, path.parent)
        barrier(world)
    return path, payload if payload is not None else read_verified(path, is_verifier=world.local_rank == 0)


def read_address(address: str, world: World) -> Payload:
    """Read a checkpoint of another place; each machine fetches it once and keeps no copy.

    Raises:
        CheckpointError: When it cannot be fetched or is not whole.
    """
    folder = None
    try:
        if world.local_rank == 0:
            folder = Path(tempfile.mkdtemp(prefix="open_clip-"))
            fetch_file(address, folder / "fetched.pt")
            _LOG.info("fetched %s", printable(address))
        folders = gather_objects(folder, world)
        path = folders[world.rank - world.local_rank] / "fetched.pt"
        try:
            payload = read_verified(path, is_verifier=world.local_rank == 0)
        except CheckpointError as error:
            # What the reader was given is a file of ours that is gone when the message is read.
            raise CheckpointError(str(error).replace(str(path), printable(address))) from error
        barrier(world)
        return payload
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
