"""Carries signs of life to the processes' common store and back, in a thread that may be held up by it."""

import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import PrefixStore, Store

from training.distributed.pulse import Pulse


class Courier:
    """Posts this process's sign of life every few seconds, and looks at all others' while asked to.

    Attributes:
        looks: (monotonic time, sign of life of each rank), oldest first, since :meth:`look` was called.
    """

    def __init__(
        self, store: Store, rank: int, world_size: int, every_s: float, make_pulse: Callable[[], Pulse]
    ) -> None:
        clone = getattr(store, "clone", None)
        # A store of its own: one that the main thread waits in would keep this one waiting too.
        self._store = PrefixStore("pulse", store if clone is None else clone())
        self._keys = [str(rank) for rank in range(world_size)]
        self._rank = rank
        self._every_s = every_s
        self._make_pulse = make_pulse
        self._answered = time.monotonic()
        self._is_looking = False
        self._is_gone = False
        self._wake = threading.Condition()
        self._closed = False
        self.looks: list[tuple[float, dict[int, Pulse]]] = []
        self._store.set(str(rank), make_pulse().encode())
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin; every process has posted its first sign of life before."""
        self._thread.start()

    def look(self) -> None:
        """Look at the others from now on."""
        if not self._is_looking:
            self.looks = []
            self._is_looking = True

    def look_away(self) -> None:
        """Look at the others no more."""
        self._is_looking = False

    def two_looks(self, wait_s: float) -> tuple[dict[int, Pulse], dict[int, Pulse], float] | None:
        """Give the newest look and one at least three beats older, waiting for them; None when the store is silent.

        Args:
            wait_s: Seconds to wait at most.
        """
        self.look()
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not self._is_gone:
            looks = self.looks
            if looks and looks[-1][0] - looks[0][0] >= 3 * self._every_s:
                newest, now = looks[-1][1], looks[-1][0]
                older = [look for look in looks if now - look[0] >= 3 * self._every_s][-1]
                return older[1], newest, now - older[0]
            time.sleep(self._every_s / 4)
        return None

    def post_now(self, wait_s: float = 2.0) -> None:
        """Post a sign of life at once, so that it is there before this process ends."""
        before = self._answered
        with self._wake:
            self._wake.notify_all()
        deadline = time.monotonic() + wait_s
        while self._answered <= before and not self._is_gone and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self) -> None:
        """Stop."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * self._every_s)

    def _run(self) -> None:
        while not self._closed:
            try:
                self._store.set(str(self._rank), self._make_pulse().encode())
                if self._is_looking:
                    values = self._store.multi_get(self._keys)
                    pulses = {rank: Pulse.decode(value) for rank, value in enumerate(values)}
                    self.looks = [*self.looks[-20:], (time.monotonic(), pulses)]
            except RuntimeError:
                # Its host is gone, and so is everybody's way to tell the others.
                self._is_gone = True
                return
            self._answered = time.monotonic()
            with self._wake:
                if not self._closed:
                    self._wake.wait(self._every_s)
