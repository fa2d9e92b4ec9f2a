"""The short examination: what is here, which device would be taken, and a few trials of it in as many seconds."""

from typing import TYPE_CHECKING

from open_clip.errors import DeviceError, OpenClipError, first_line
from training.device.inventory import judge_installation
from training.device.startup import import_torch
from training.doctor.findings import Finding
from training.doctor.machine import describe_fast_parts, describe_machine, describe_packages
from training.doctor.terminal import say

if TYPE_CHECKING:
    from training.device import Device

_ALL_REDUCE_LIMIT_S = 60.0


def examine(wanted: str) -> int:
    """Print what is found and return the exit status: 0 when a run would start on the device of this name."""
    for fact in (*describe_machine(), *describe_packages()):
        say(*fact)
    try:
        import_torch()
    # A broken torch fails in many ways: a missing library, a wrong architecture, a plug-in's own error.
    except Exception as error:
        return give_up(f"torch does not import: {first_line(error)}. Reinstall torch for this Python and processor.")
    for fact in describe_fast_parts():
        say(*fact)
    return _examine_devices(wanted)


def give_up(reason: str, status: int = DeviceError.exit_status) -> int:
    """Print why no run would start and return the status for it."""
    say("not ready", reason)
    return status


def _examine_devices(wanted: str) -> int:
    """Print every device, try the one that would be chosen, and return the exit status."""
    from training.device import device_report, select_device

    for device, reason in device_report():
        say("device", f"{device.kind}: {f'{device.count()} usable' if reason is None else f'no: {reason}'}")
    told: dict[str, str] = {}
    try:
        chosen = select_device(wanted)
        told = chosen.software()
        chosen.activate()
        info = chosen.info()
    except OpenClipError as error:
        _say_versions(told)
        return give_up(" ".join(str(error).split()), error.exit_status)
    # A driver that answers and a card that does not start is a common state of a half-installed machine.
    except Exception as error:
        _say_versions(told)
        return give_up(f"--device {wanted} does not start: {type(error).__name__}: {first_line(error)}")
    say("chosen", f"--device {wanted} takes {chosen.kind}: {info.describe()}")
    if chosen.kind != "cpu":
        _say_versions(info.versions)
    _say_precisions(chosen)
    return _try_device(chosen)


def _say_versions(told: dict[str, str]) -> None:
    """Print whether the installed versions are a set that was published; nothing where there is no such list."""
    judged = judge_installation(told)
    if judged is not None:
        say("versions", judged)


def _say_precisions(device: "Device") -> None:
    """Print the precisions that work on a device, then those that do not, with the reason."""
    from training.device import make_mixed_precision, resolve_precision
    from training.params.precisions import PRECISIONS

    working: list[str] = []
    failing: dict[str, list[str]] = {}
    for name in PRECISIONS:
        try:
            precision = resolve_precision(name, device)
            make_mixed_precision(precision, device, device.torch_device())
            working.append(name if precision.note is None else f"{name} ({precision.note})")
        except OpenClipError as error:
            # One line a reason: the names stand before it.
            reason = first_line(error).removeprefix(f"--precision {name}: ")
            failing.setdefault(reason, []).append(name)
    say("precision", ", ".join(working))
    for reason, names in failing.items():
        say("precision", f"not {', '.join(names)}: {reason}")
    if device.kind != "cpu" and device.supports_bf16():
        say(
            "precision",
            "this device has bfloat16: --precision amp_bf16 needs no loss scale, which amp (fp16 everywhere, as "
            "upstream and Ascend ModelZoo mean it) does",
        )


def _try_device(device: "Device") -> int:
    """Run the trials, print each with its error, and return the exit status."""
    from training.doctor.all_reduce import all_reduce_findings
    from training.doctor.trials import guarded, quick_trials, step_trial

    step = guarded("step", lambda: step_trial(device))
    if step.state == "failed":
        return give_up(f"one training step on {device.torch_device()} failed: {step.why}")
    findings = [*quick_trials(device), *all_reduce_findings(device, seconds=0, limit_s=_ALL_REDUCE_LIMIT_S)]
    for finding in findings:
        say("tried", _describe(finding))
    bad = [finding.what for finding in findings if finding.state in ("wrong", "failed")]
    if bad:
        return give_up(f"one training step on {device.torch_device()} worked, but not {', '.join(bad)}")
    say("ready", f"one training step on {device.torch_device()} worked ({step.cells['optimizer']}); a run would start")
    return 0


def _describe(finding: Finding) -> str:
    """Describe a finding in one line: its error against the CPU where it has one, and what is wrong with it."""
    cells = finding.cells
    if "max_abs_error" in cells:
        figures = f"max abs error {cells['max_abs_error']}, relative {cells['relative_error']} against the CPU"
    else:
        figures = ", ".join(cells.values())
    parts = [finding.what, *filter(None, [figures])]
    return ": ".join(parts if finding.state == "ok" else [finding.what, f"{finding.state}, {finding.why}"])
