"""Keep what the processes of one machine say to each other off its network: torch listens on every interface.

Only where the address they meet at is one of the machine itself; a host's name may be reached by ways unknown here.
"""

import datetime
import ipaddress
import os
import socket
from urllib.parse import urlsplit

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store

from training.distributed.env import World

_IFNAMES = ("lo", "lo0")


def serve_on_loopback(url: str, world: World, timeout: datetime.timedelta) -> Store | None:
    """Open the store that the processes meet at for this machine alone.

    Returns:
        The store; None where another process serves it or it must be reached from other machines.

    Raises:
        OSError: The port is taken.
    """
    host, port = _address(url)
    if world.rank != 0 or not _is_loopback(host) or port is None or _is_launchers(url):
        return None
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        store: Store = TCPStore(
            host,
            port,
            world.world_size,
            is_master=True,
            timeout=timeout,
            multi_tenant=True,
            master_listen_fd=listener.detach(),
        )
    except BaseException:
        listener.close()
        raise
    return store


def stay_on_loopback(url: str) -> None:
    """Have gloo connect processes that meet on this machine over its loopback interface, unless told otherwise."""
    if not _is_loopback(_address(url)[0]):
        return
    names = [name for _, name in socket.if_nameindex()]
    found = next((name for name in _IFNAMES if name in names), None)
    if found is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", found)


def _address(url: str) -> tuple[str, int | None]:
    """Read host and port of ``env://`` or ``tcp://HOST:PORT``; an empty host for others."""
    if url == "env://":
        port = os.environ.get("MASTER_PORT", "")
        return os.environ.get("MASTER_ADDR", ""), int(port) if port.isdecimal() else None
    parts = urlsplit(url)
    return (parts.hostname or "", parts.port) if parts.scheme == "tcp" else ("", None)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_launchers(url: str) -> bool:
    """Tell whether torchrun serves the store itself, as it does for the address that it hands on."""
    return url == "env://" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
