"""Which versions of CANN, driver, torch_npu, torch and Python Ascend published as belonging together; imports no torch.

``docs/ascend.md`` shows these tables to people and a test holds the two together. What Ascend did not publish is not in
them: the pure function :func:`judge_versions` says so instead of guessing.
"""

import re
from dataclasses import dataclass
from typing import Literal

#: ``published``: released together. ``compatible``: listed as compatible. ``unpublished``: in none of Ascend's lists.
#: ``unknown``: too little was found to say.
PairStatus = Literal["published", "compatible", "unpublished", "unknown"]


@dataclass(frozen=True)
class Pair:
    """One wheel of torch_npu and what it was released with; ``cann`` may end in ``X``, any patch of that series."""

    release: str
    torch_npu: str
    cann: str
    #: Minor versions of Python 3, first and last, with a wheel on the package index for x86_64 and for aarch64.
    python: tuple[int, int]

    @property
    def torch(self) -> str:
        """The torch that the wheel is compiled against and requires."""
        return _base(self.torch_npu)


@dataclass(frozen=True)
class Judgement:
    """The verdict on a set of versions, and one line that a person can act on."""

    verdict: PairStatus
    line: str


# A release of TorchNPU, the CANN it was made for, and its wheels by the first and last Python 3 they are built for.
# Source: Ascend/pytorch, COMPATIBILITY.md, docs/zh/release_notes.md of 26.2.0, patch_notes.md of 26.1.1 and
# release_notes.md of 7.3.0; the README tables inside the wheels 2.6.0, 2.7.1 and 2.9.0. Python: tags of the wheels.
_TABLE = (
    ("26.2.0", "9.2.0", (10, 14), "2.14.0 2.13.0 2.12.0.post3 2.11.0.post3 2.10.0.post7 2.9.0.post9"),
    ("26.2.0", "9.2.0", (9, 13), "2.7.1.post11"),
    ("26.1.1", "9.1.X", (10, 13), "2.12.0.post2 2.11.0.post2"),
    ("26.1.1", "9.1.X", (10, 11), "2.10.0.post6"),
    ("26.1.1", "9.1.X", (10, 13), "2.9.0.post8"),
    ("26.1.1", "9.1.X", (9, 13), "2.7.1.post10"),
    ("26.1.0", "9.1.0", (10, 13), "2.12.0 2.11.0 2.10.0.post4 2.9.0.post6"),
    ("26.1.0", "9.1.0", (9, 13), "2.7.1.post8"),
    ("26.0.0", "9.0.0", (10, 13), "2.10.0 2.9.0.post2"),
    ("26.0.0", "9.0.0", (9, 13), "2.8.0.post4 2.7.1.post4"),
    ("7.3.0", "8.5.0", (10, 12), "2.9.0"),
    ("7.3.0", "8.5.0", (9, 12), "2.8.0.post2 2.7.1.post2 2.6.0.post5"),
    ("7.2.0", "8.3.RC1", (9, 11), "2.8.0 2.7.1 2.6.0.post3"),
    ("7.1.0", "8.2.RC1", (9, 11), "2.6.0"),
)
#: Every published pair, newest first.
PAIRS: tuple[Pair, ...] = tuple(
    Pair(release, torch_npu, cann, python) for release, cann, python, wheels in _TABLE for torch_npu in wheels.split()
)
# Series of CANN that Ascend lists as compatible with a series of TorchNPU, beside the one it was released with.
# Source: the compatibility tables of the release notes of TorchNPU 26.2.0 and 7.3.0.
_COMPATIBLE_CANN: dict[str, tuple[str, ...]] = {
    "26.2": ("9.2", "9.1", "9.0", "8.5"),
    "26.1": ("9.2", "9.1", "9.0", "8.5"),
    "26.0": ("9.2", "9.1", "9.0", "8.5"),
    "7.3": ("9.2", "9.1", "9.0", "8.5", "8.3", "8.2"),
    "7.2": ("8.3", "8.2"),
    "7.1": ("8.3", "8.2"),
}
#: Series of CANN: the series of drivers (Ascend HDK) listed for it, oldest first.
#: Source: release notes of CANN 9.2.0 and 8.5.0; 8.3: the version file of ascend-deployer; 8.2: release notes of MindIE
#: 2.1.RC1, which lists drivers for the CANN it is built on.
DRIVERS: dict[str, tuple[str, ...]] = {
    "9.2": ("25.3", "25.5", "25.7", "26.0", "26.1", "26.2"),
    "9.1": ("25.2", "25.3", "25.5", "25.7", "26.0", "26.1", "26.2"),
    "9.0": ("25.0", "25.2", "25.3", "25.5", "25.7", "26.0", "26.1", "26.2"),
    "8.5": ("25.0", "25.2", "25.3", "25.5", "25.7", "26.0", "26.1", "26.2"),
    "8.3": ("25.3",),
    "8.2": ("24.1", "25.0", "25.2"),
}


def compatible_cann(pair: Pair) -> tuple[str, ...]:
    """List the series of CANN that Ascend declares to work with a wheel, newest first."""
    return _COMPATIBLE_CANN[_series(pair.release) or ""]


def judge_versions(
    *, torch_npu: str | None, torch: str | None, cann: str | None, driver: str | None = None, python: str | None = None
) -> Judgement:
    """Hold found versions against Ascend's published ones; what can be repaired is said before what is not known.

    Args:
        torch_npu: as the package says it, such as ``2.9.0.post2``; None where it is not installed.
        torch: likewise; a local part (``+cpu``) is no part of the pair.
        cann: as ``torch_npu.npu.utils.get_cann_version("CANN")`` says it; None or empty where no version was found.
        driver: likewise for ``"DRIVER"``. Not knowing it lowers no verdict.
        python: such as ``3.11.9``.
    """
    if not torch_npu or _rank(torch_npu) is None:
        return Judgement("unknown", "the version of torch_npu was not found, so no pair can be looked up")
    wanted = _base(torch_npu)
    if torch and _base(torch) != wanted:
        return _refuse(
            f"torch_npu {torch_npu} is compiled against torch {wanted}, and torch {torch} is installed: "
            f"install the CPU build of torch {wanted}"
        )
    pair = next((pair for pair in PAIRS if pair.torch_npu == _public(torch_npu)), None)
    if pair is None:
        near = _nearest(wanted, cann)
        return _refuse(f"Ascend's tables do not name torch_npu {torch_npu}; nearest is {_with(near)}")
    first, last = pair.python
    if python and _series(python) not in {f"3.{minor}" for minor in range(first, last + 1)}:
        return _refuse(
            f"torch_npu {torch_npu} has wheels for Python 3.{first} to 3.{last}, and this is {python}: "
            "make the environment with one of those"
        )
    return _judge_cann(pair, cann, driver)


def _judge_cann(pair: Pair, cann: str | None, driver: str | None) -> Judgement:
    """Hold the CANN that was found against the one a wheel was released with, then the driver against that CANN."""
    if not cann:
        return Judgement(
            "unknown",
            f"torch_npu {pair.torch_npu} was released with CANN {pair.cann}; which CANN stands here was not found"
            " (CANN before 8.1.RC1 does not tell it)",
        )
    if not _is_release(cann):
        return _refuse(f"CANN {cann} is in none of Ascend's lists: install CANN {pair.cann}")
    if _same_cann(cann, pair.cann):
        verdict: PairStatus = "published"
        line = f"torch_npu {pair.torch_npu}, torch {pair.torch} and CANN {cann} were released together"
    elif _series(cann) in compatible_cann(pair):
        verdict = "compatible"
        line = f"Ascend lists CANN {cann} as compatible with torch_npu {pair.torch_npu}, released with CANN {pair.cann}"
    else:
        near = _nearest(pair.torch, cann)
        other = "" if near == pair else f", or {_with(near)}"
        return _refuse(
            f"torch_npu {pair.torch_npu} and CANN {cann} are not a published pair: install CANN {pair.cann}{other}"
        )
    listed, remark = _judge_driver(DRIVERS[_series(cann) or ""], driver)
    return Judgement(verdict, f"{line}; {remark}") if listed else _refuse(f"{line}, but {remark}")


def _judge_driver(listed: tuple[str, ...], driver: str | None) -> tuple[bool, str]:
    """Return whether a driver is no cause for concern beside a CANN with this list, and the words for it."""
    rank, newest = _rank(driver or ""), _rank(listed[-1]) or 0
    if rank is None:
        return True, "the driver's version was not found (a container mounts its version.info)"
    if _series(driver or "") in listed:
        return True, f"driver {driver} is listed for it"
    if rank > newest:
        return True, f"driver {driver} is newer than those listed for it, {', '.join(listed)}"
    return False, f"driver {driver} is not among those listed for that CANN: update it to one of {', '.join(listed)}"


def _refuse(line: str) -> Judgement:
    """Say that Ascend publishes no such set, and where the tables are."""
    return Judgement("unpublished", f"{line}; the tables are in docs/ascend.md")


def _nearest(torch: str, cann: str | None) -> Pair:
    """Choose from the pairs of a CANN, or of those nearest to it, the one whose torch is nearest to this."""
    found = _rank(cann or "")
    distances = [abs((_rank(pair.cann) or 0) - found) if found is not None else 0 for pair in PAIRS]
    near = [pair for pair, distance in zip(PAIRS, distances, strict=True) if distance == min(distances)]
    return min(near, key=lambda pair: abs((_rank(pair.torch) or 0) - (_rank(torch) or 0)))


def _with(pair: Pair) -> str:
    """Write a pair as what to install."""
    return f"torch_npu {pair.torch_npu} with torch {pair.torch}, released with CANN {pair.cann}"


def _public(version: str) -> str:
    """Leave out the local part of a version: ``2.9.0.post2+git1a2b`` is ``2.9.0.post2``."""
    return version.partition("+")[0].strip()


def _base(version: str) -> str:
    """Return the first three numbers of a version: ``2.9.0.post2`` is of ``2.9.0``."""
    return ".".join(_public(version).split(".")[:3])


def _series(version: str) -> str | None:
    """Return the first two numbers of a version: ``25.3.rc1`` is of ``25.3``; None where there are not two."""
    found = re.match(r"v?(\d+\.\d+)(?:\D|$)", version.strip(), re.IGNORECASE)
    return found[1] if found else None


def _rank(version: str) -> int | None:
    """Give the place of a version's series among others; no second number outweighs a first."""
    series = _series(version)
    if series is None:
        return None
    major, minor = series.split(".")
    return 100 * int(major) + int(minor)


def _same_cann(found: str, wanted: str) -> bool:
    """Return whether a CANN is the wanted one: all of it, or its series where any patch will do."""
    if wanted.endswith(".X"):
        return _series(found) == _series(wanted)
    return found.strip().upper() == wanted.upper()


def _is_release(cann: str) -> bool:
    """Return whether a version of CANN is neither alpha, beta nor a build of its makers."""
    return re.fullmatch(r"\d+\.\d+\.(?:RC)?\d+", cann.strip(), re.IGNORECASE) is not None
