"""Find out from two looks at all signs of life who holds a run up; a pure function, it reads no store."""

from collections.abc import Mapping
from dataclasses import dataclass

from open_clip.errors import DataError, DeviceError, cut_list
from training.distributed.pulse import Pulse

#: Phases that may take longer than a step.
LONG_PHASES = ("start-up", "evaluation", "save", "end")


@dataclass(frozen=True)
class HoldUp:
    """Who holds the run up.

    Attributes:
        ranks: The processes that the others wait for.
        reasons: One line each.
        status: Exit status that fits.
        is_loss: Whether they ended or fell silent.
        is_busy: Whether they are alive and in a phase that may take long.
        frozen: Machine and process number of those that fell silent.
        speaker: The rank that speaks for all that judge alike.
    """

    ranks: tuple[int, ...]
    reasons: tuple[str, ...]
    status: int = DeviceError.exit_status
    is_loss: bool = False
    is_busy: bool = False
    frozen: tuple[tuple[str, int], ...] = ()
    speaker: int = 0

    def describe(self) -> str:
        """Name the processes and why."""
        if not self.ranks:
            return "every process waits for the others, all at the same point: their collective calls do not match"
        return cut_list(self.reasons, 8)


def judge(first: Mapping[int, Pulse], second: Mapping[int, Pulse], apart_s: float) -> HoldUp:
    """Compare two looks at all processes.

    Args:
        first: Each rank's sign of life at the first look.
        second: The same some beats later.
        apart_s: Seconds between the looks.
    """
    left = [rank for rank, pulse in second.items() if pulse.left]
    silent = [rank for rank, pulse in second.items() if not pulse.left and first[rank].beat == pulse.beat]
    alive = {rank: pulse for rank, pulse in second.items() if rank not in (*left, *silent)}
    speaker = min(alive, default=0)
    # Those that left because of others repeat what is told here, unless nobody else is to blame.
    gone = [rank for rank in left if not second[rank].follows] or ([] if silent else left)
    if gone or silent:
        reasons = [f"rank {rank} ({second[rank].name()}) ended: {second[rank].left}" for rank in gone]
        reasons += [
            f"rank {rank} ({second[rank].name()}) gives no sign of life since {apart_s:.0f} s or longer, last seen in "
            f"step {second[rank].step + 1} ({second[rank].phase}): it was killed or stopped, or its machine is gone"
            for rank in silent
        ]
        status = second[gone[0]].status if gone else DeviceError.exit_status
        frozen = tuple((second[rank].host, second[rank].pid) for rank in silent)
        return HoldUp((*gone, *silent), tuple(reasons), status, is_loss=True, frozen=frozen, speaker=speaker)
    late = _latecomers(alive)
    pulses = [alive[rank] for rank in late]
    return HoldUp(
        tuple(late),
        tuple(
            f"rank {rank} ({pulse.name()}) is in step {pulse.step + 1} ({pulse.phase}) at {pulse.where} since "
            f"{pulse.still_s:.0f} s"
            for rank, pulse in zip(late, pulses, strict=True)
        ),
        DataError.exit_status if pulses and all(pulse.phase == "data" for pulse in pulses) else DeviceError.exit_status,
        is_busy=bool(pulses) and all(pulse.phase in LONG_PHASES for pulse in pulses),
        speaker=speaker,
    )


def _latecomers(alive: Mapping[int, Pulse]) -> list[int]:
    """Choose those the others wait for: not waiting themselves, else fewest steps done."""
    working = [rank for rank, pulse in alive.items() if not pulse.is_waiting]
    if working:
        # One that waits for data or works in a long phase shows more surely than a line of code does.
        told = [rank for rank in working if alive[rank].phase != "step"]
        return told or working
    steps = {pulse.step for pulse in alive.values()}
    return [rank for rank, pulse in alive.items() if len(steps) > 1 and pulse.step == min(steps)]
