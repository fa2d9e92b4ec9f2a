"""Answer the training wrappers' questions about this machine: is the port free, are there enough cards.

Prints the device the trainer should be given; starts no training.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the wrapper says what Ctrl-C meant

import argparse
import socket
import sys

from open_clip.errors import ConfigError, DeviceError, OpenClipError


def main(words: list[str] | None = None) -> int:
    """Check what was asked for and print the device for the trainer's ``--device``."""
    parser = argparse.ArgumentParser(description="Check the port and the number of cards before training starts.")
    parser.add_argument("--device", required=True, help="auto, cpu, cuda or npu")
    parser.add_argument("--device_id", type=int, default=0, help="index of the card for a single process")
    parser.add_argument("--ranks", type=int, default=1, help="processes to start on this machine")
    parser.add_argument("--processes", type=int, help="processes on all machines; as on this one when not given")
    parser.add_argument("--port", type=int, help="port the processes will meet at")
    options = parser.parse_args(words)
    try:
        if options.port is not None:
            check_port(options.port)
        print(resolve_device(options.device, options.ranks, options.device_id, options.processes))
    except OpenClipError as error:
        print(f"[Error] {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    return 0


def check_port(port: int) -> None:
    """Make sure that nobody listens at a port.

    Raises:
        ConfigError: When the port is taken.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"port {port}: {reason}; choose another with --master_port=N.") from error


def resolve_device(name: str, ranks: int, device_id: int = 0, processes: int | None = None) -> str:
    """Say which device the trainer should use, with the card's index when it is not the first.

    Raises:
        DeviceError: When there are fewer cards than processes, no card of that index, or none at all for several
            processes and ``auto``.
    """
    if name == "cpu":
        return name
    from training.device.startup import import_torch

    import_torch()
    from training.device.select import select_device

    device = select_device(name, processes or ranks)
    if device.kind == "cpu":
        return device.kind
    count = device.count()
    if count < ranks:
        raise DeviceError(
            f"{ranks} processes were asked for and this machine has {count} {device.kind} device(s); "
            f"give --nproc_per_node={count}, or --device=cpu, where processes share the cores."
        )
    if device_id >= count:
        raise DeviceError(f"--device_id={device_id}: this machine has {count} {device.kind} device(s), counted from 0.")
    return f"{device.kind}:{device_id}" if device_id else device.kind


if __name__ == "__main__":
    sys.exit(main())
