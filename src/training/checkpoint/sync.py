"""Keep the remote copy of a run folder up to date beside the training; what is copied, and how, is `remote`'s."""

import logging
import threading
from pathlib import Path
from types import TracebackType

from open_clip.errors import CheckpointError, printable
from training.checkpoint.remote import RemoteFolder

_LOG = logging.getLogger(__name__)


class RemoteSync:
    """Context in which a run folder is copied: once at the start, every so many seconds, once at the end.

    The first copy must work, so that a wrong address or missing rights are known before anything is trained. A later
    one that fails is reported and made up for by the next.
    """

    def __init__(self, remote: RemoteFolder, root: Path, every_s: float) -> None:
        self._remote = remote
        self._root = root
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="remote-sync", daemon=True)

    def __enter__(self) -> "RemoteSync":
        try:
            self._remote.send_changed(self._root)
        except CheckpointError as error:
            raise CheckpointError(
                f"--remote-sync: the first copy failed, so later ones would too. {error} Look at the address, the "
                "rights and the network."
            ) from error
        _LOG.info("the run folder is copied to %s every %g s", printable(self._remote.address), self._every_s)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._copy():
            _LOG.info("the run folder is copied to %s", printable(self._remote.address))

    def _keep(self) -> None:
        while not self._ended.wait(self._every_s):
            self._copy()

    def _copy(self) -> bool:
        try:
            self._remote.send_changed(self._root)
        except (CheckpointError, OSError) as error:
            again = "Copy the run folder by hand." if self._ended.is_set() else "The next copy makes up for it."
            _LOG.warning("--remote-sync: %s %s", error, again)
            return False
        return True
