"""A copy of a run folder somewhere else, through fsspec: whole files go there, checkpoints come back.

Nothing there is ever deleted, as with upstream's sync.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from open_clip.errors import CheckpointError, ConfigError, MissingDependency, printable
from open_clip.extras import install_advice
from open_clip.files import TEMPORARY, sync_folder
from training.checkpoint.digest import digest_file
from training.checkpoint.find import LATEST, order_names
from training.checkpoint.manifest import MANIFEST, Manifest, parse_manifest
from training.checkpoint.schema import Payload
from training.run_lock import LOCK_NAME

_LOG = logging.getLogger(__name__)
_CHECKPOINTS = "checkpoints"
# Torn at any moment, or of this start alone: a copy would be worth nothing.
_LEFT_OUT = (LATEST, LOCK_NAME)


def is_remote(address: str) -> bool:
    """Tell an address of another place from the path of a file here."""
    return "://" in address


def open_address(address: str) -> tuple[Any, str]:
    """Find the file system of an address and the path within it.

    Raises:
        MissingDependency: fsspec, or its package for this kind of address, is not installed.
        ConfigError: The address is of no known kind.
        CheckpointError: The place cannot be reached: some kinds log in before anything is asked for.
    """
    shown = printable(address)
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependency(
            f"{shown} is read and written through fsspec, which cannot be imported ({error}): "
            f"{install_advice('remote')}."
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingDependency(
            f"fsspec needs another package for {shown} ({explain(error)}). Install it beside fsspec."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{shown}: {explain(error)}. Give an address such as s3://bucket/runs.") from error
    except Exception as error:
        raise CheckpointError(
            f"{shown}: cannot be reached ({explain(error)}). Look at the address, the rights and the network."
        ) from error
    return system, str(path)


def fetch_file(address: str, path: Path) -> None:
    """Bring a remote file here, whole or not at all.

    Raises:
        CheckpointError: When it cannot be fetched.
        ConfigError: As :func:`open_address`.
    """
    system, source = open_address(address)
    try:
        _fetch(system, source, path)
    except Exception as error:
        raise CheckpointError(f"{printable(address)}: cannot be fetched ({explain(error)}).") from error


class RemoteFolder:
    """The remote copy of one run folder.

    Attributes:
        address: Where it is.
    """

    def __init__(self, destination: str, name: str, protocol: str) -> None:
        """Find the remote folder.

        Args:
            destination: Folder of all runs there.
            name: Name of the run.
            protocol: ``s3`` or ``fsspec``, as upstream's flag has it.

        Raises:
            ConfigError: When the address is of another kind than the protocol, or of no known kind.
        """
        if protocol == "s3" and not destination.startswith("s3://"):
            raise ConfigError(
                f"--remote-sync {printable(destination)} is no S3 address (s3://bucket/folder); for other kinds give "
                "--remote-sync-protocol fsspec."
            )
        self.address = f"{destination.rstrip('/')}/{name}"
        self._shown = printable(self.address)
        self._system, self._path = open_address(self.address)
        self._sent: dict[str, tuple[int, int]] = {}

    def list_files(self) -> list[str]:
        """List the files there, relative to the run folder.

        Raises:
            CheckpointError: When the place cannot be asked.
        """
        try:
            self._system.invalidate_cache()
            root = self._path.rstrip("/") + "/"
            found = self._system.find(self._path) if self._system.exists(self._path) else []
        except Exception as error:
            raise CheckpointError(f"{self._shown}: cannot be listed ({explain(error)}).") from error
        # Some file systems put a slash before the path they were given.
        return [path[path.index(root) + len(root) :] for path in map(str, found) if root in path]

    def list_checkpoints(self) -> list[str]:
        """List the names of the checkpoints there, oldest state first."""
        prefix = f"{_CHECKPOINTS}/"
        return order_names(name.removeprefix(prefix) for name in self.list_files() if name.startswith(prefix))

    def fetch_checkpoint(self, name: str, folder: Path) -> bool:
        """Bring a checkpoint into a run's checkpoint folder, if it is as it was written.

        Returns:
            Whether it is here now; a failure is logged.
        """
        records = parse_manifest(self._read_text(f"{_CHECKPOINTS}/{MANIFEST}"), self.address).get(name, ())
        path = folder / name
        _LOG.info("fetching %s from %s", printable(name, 200), self._shown)
        arrived = path.with_name(f"{TEMPORARY}fetched-{name}-{os.getpid()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(self._system, f"{self._path}/{_CHECKPOINTS}/{name}", arrived)
            digest = digest_file(arrived)
            if records and digest not in [record.digest for record in records]:
                _LOG.warning("%s/%s is not what was written (%s).", self._shown, printable(name, 200), MANIFEST)
                return False
            if records:
                Manifest(folder).announce(name, records[-1])
            arrived.replace(path)
            sync_folder(folder)
        except Exception as error:
            _LOG.warning("%s/%s: cannot be fetched (%s).", self._shown, printable(name, 200), explain(error))
            return False
        finally:
            arrived.unlink(missing_ok=True)
        return True

    def fetch_records(self, root: Path) -> None:
        """Bring the run's logs and settings that are not here: a run that goes on elsewhere goes on writing them.

        Raises:
            CheckpointError: When they cannot be fetched.
        """
        for name in self.list_files():
            is_checkpoint = name.startswith(f"{_CHECKPOINTS}/") and not name.endswith("/results.jsonl")
            path = root / name
            if is_checkpoint or name == LOCK_NAME or path.exists() or not path.resolve().is_relative_to(root.resolve()):
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _fetch(self._system, f"{self._path}/{name}", path)
            except Exception as error:
                raise CheckpointError(
                    f"{self._shown}/{printable(name, 200)}: cannot be fetched ({explain(error)})."
                ) from error

    def send_changed(self, root: Path) -> int:
        """Copy the files of a run folder that have changed since they were last sent.

        Checkpoints go before the manifest that names them, temporary files not at all.

        Returns:
            How many files were sent.

        Raises:
            CheckpointError: At the first file that cannot be sent; those sent before it are not sent again.
        """
        there = self._known_checkpoints()
        sent = 0
        for path in sorted(root.rglob("*"), key=lambda path: (path.name == MANIFEST, str(path))):
            name = path.relative_to(root).as_posix()
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                stamp = (state.st_size, state.st_mtime_ns)
                if not _is_sendable(path) or self._sent.get(name) == stamp:
                    continue
                if there.get(path.name) is None or there[path.name] != _recorded(path):
                    self._send(path, name)
                    sent += 1
                self._sent[name] = stamp
        return sent

    def _send(self, path: Path, name: str) -> None:
        target = f"{self._path}/{name}"
        try:
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), target)
        except FileNotFoundError:
            if path.exists():
                raise CheckpointError(f"{self._place_of(name)}: cannot be written (no such place).") from None
            raise
        except Exception as error:
            raise CheckpointError(f"{self._place_of(name)}: cannot be written ({explain(error)}).") from error

    def _place_of(self, name: str) -> str:
        return f"{self._shown}/{printable(name, 200)}"

    def _known_checkpoints(self) -> Payload:
        """Give the records of the checkpoints that were sent by an earlier start, so that they are not sent again."""
        if self._sent:
            return {}
        listed = set(self.list_checkpoints())
        records = parse_manifest(self._read_text(f"{_CHECKPOINTS}/{MANIFEST}"), self.address) if listed else {}
        return {name: kept[-1] for name, kept in records.items() if name in listed}

    def _read_text(self, name: str) -> str | None:
        try:
            return str(self._system.cat_file(f"{self._path}/{name}").decode("utf-8"))
        except FileNotFoundError:
            return None
        except Exception as error:
            _LOG.warning("%s/%s: cannot be read (%s).", self._shown, name, explain(error))
            return None


def explain(error: BaseException) -> str:
    """Put what a remote file system raised into one line."""
    text = printable(" ".join(str(error).split()), 200)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _fetch(system: Any, source: str, path: Path) -> None:
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        system.get_file(source, str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_sendable(path: Path) -> bool:
    # A link could lead to any file of this machine.
    is_own = path.is_file() and not path.is_symlink()
    return is_own and not path.name.startswith(TEMPORARY) and path.name not in _LEFT_OUT


def _recorded(path: Path) -> Any:
    records = Manifest(path.parent).of(path.name) if path.suffix == ".pt" else ()
    return records[-1] if records else None
