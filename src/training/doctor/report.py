"""Make a report on a device, part by part, within ten minutes: every part that fails leaves the others."""

import datetime
import errno
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from open_clip.errors import OpenClipError, first_line
from open_clip.files import write_whole
from training.device.inventory import device_variables, tool_output
from training.device.startup import import_torch
from training.doctor.examination import give_up
from training.doctor.machine import Fact, describe_fast_parts, describe_machine, describe_packages
from training.doctor.outcome import Outcome, Page
from training.doctor.parts import INFO, PARTS, RECIPE_BATCH, VERSIONS, Conditions, Part
from training.doctor.private import hide_value
from training.doctor.terminal import say, say_running
from training.doctor.worker import PartFailed, Worker

#: Seconds that all parts share; the rest of ten minutes is for what stands around them.
TOTAL_S = 570.0
_LEAST_S = 5.0
_CARD_BATCH, _CPU_BATCH = 128, 4


@dataclass(frozen=True)
class ReportRequest:
    """What a user asked for; ``batch_size`` 0 leaves it to the device."""

    device: str
    model: str
    batch_size: int
    seconds: float
    output: Path


def make_report(order: ReportRequest) -> int:
    """Measure a device, write the page after every part, and return the exit status.

    Returns:
        0 when every trial is as it should be, 6 when one is not or the device does not start, 2 when there is no such
        device or model, 1 when the page cannot be written.
    """
    started = time.monotonic()
    try:
        page = _open_page(order)
    except OpenClipError as error:
        return give_up(" ".join(str(error).split()), error.exit_status)
    # torch or a driver may be broken in any way; the short examination says more of it.
    except Exception as error:
        return give_up(f"{type(error).__name__}: {first_line(error)}. See python -m training.doctor")
    worker = Worker()
    try:
        _try_place(order.output)
        say("report", f"on {page.title}; it takes up to 10 minutes and goes to {order.output}")
        for part in PARTS:
            outcome = _run_part(part, page, worker, TOTAL_S - (time.monotonic() - started))
            page.outcomes.append(outcome)
            _note_device(outcome, page)
            page.seconds = time.monotonic() - started
            page.is_whole = part is PARTS[-1]
            say(part.name, f"{outcome.describe()} ({outcome.seconds:.0f} s)")
            _say_bad(outcome)
            write_whole(order.output, page.write())
    except KeyboardInterrupt:
        say("stopped", f"what was found until then is in {order.output}" if page.outcomes else "nothing was found yet")
        return 130
    except OSError as error:
        say("not written", f"{order.output}: {error.strerror or error}. Choose another place with --output")
        return 1
    finally:
        worker.close()
    return _close(page, order)


def _try_place(path: Path) -> None:
    """Make sure that a file can be written there, which minutes later would be too late; leaves what is there.

    Raises:
        OSError: It cannot.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _close(page: Page, order: ReportRequest) -> int:
    findings = [finding for outcome in page.outcomes for finding in outcome.findings]
    is_bad = any(outcome.is_bad for outcome in page.outcomes)
    right = sum(finding.state == "ok" for finding in findings)
    broken = [outcome.part.name for outcome in page.outcomes if outcome.failure]
    stopped = f"; stopped before their end: {', '.join(broken)}" if broken else ""
    say("total", f"{right} of {len(findings)} trials ok, {page.seconds:.0f} s{stopped}")
    say("written", f"{order.output}: look it through, then paste it into an issue of this project")
    return 6 if is_bad else 0


def _open_page(order: ReportRequest) -> Page:
    """Choose the device without starting it, make sure of the model's name, and collect the environment."""
    import_torch()
    from open_clip.factory.names import get_model_config, unknown_model
    from training.device import select_device

    device = select_device(order.device)
    if get_model_config(order.model) is None:
        raise unknown_model(order.model)
    batch = order.batch_size or (_CPU_BATCH if device.kind == "cpu" else _CARD_BATCH)
    name = device.kind if device.index is None else f"{device.kind}:{device.index}"
    # A machine that is to take smaller steps takes smaller ones there too; one pair has nothing to be told apart from.
    recipe_batch = max(2, min(order.batch_size or RECIPE_BATCH, RECIPE_BATCH))
    conditions = Conditions(name, order.model, batch, order.seconds, recipe_batch)
    facts = [*describe_machine(), *describe_packages(), *describe_fast_parts()]
    variables = {name: hide_value(name, value) for name, value in device_variables().items()}
    now = datetime.datetime.now(datetime.timezone.utc)
    return Page(name, conditions, now, facts, variables, tool_output())


def _run_part(part: Part, page: Page, worker: Worker, left_s: float) -> Outcome:
    """Run a part unless the device does not start or the time is over."""
    outcome = Outcome(part, skipped=_why_not(page, left_s))
    if outcome.skipped:
        return outcome
    began = time.monotonic()
    limit_s = min(part.limit_s, left_s)
    say_running(part.name, f"running, at most {limit_s:.0f} s")
    if part.is_apart:
        # The processes of this part want the device's memory.
        worker.close()
    try:
        run = part.run(page.conditions, limit_s) if part.is_apart else worker.run(part, page.conditions, limit_s)
        for finding in run:
            outcome.findings.append(finding)
            say_running(part.name, f"{len(outcome.findings)} found, {time.monotonic() - began:.0f} s: {finding.what}")
    except PartFailed as failed:
        outcome.failure = str(failed)
    # A part is never the end of a report.
    except Exception as error:
        outcome.failure = f"{type(error).__name__}: {first_line(error)}"
    outcome.notes = [] if part.is_apart else worker.notes
    outcome.seconds = time.monotonic() - began
    return outcome


def _note_device(outcome: Outcome, page: Page) -> None:
    """Put what the device says of itself into the page's title and its environment."""
    for finding in outcome.findings:
        if finding.what in (INFO, VERSIONS) and finding.state == "ok":
            page.facts.insert(0, Fact("device" if finding.what == INFO else finding.what, finding.cells["answer"]))
            if finding.what == INFO:
                page.title = f"{page.conditions.device}, {finding.cells['answer'].partition(',')[0]}"


def _why_not(page: Page, left_s: float) -> str:
    """Say why a part cannot be run; nothing when it can."""
    if left_s < _LEAST_S:
        return "no time was left for it"
    if not page.outcomes:
        return ""
    first = page.outcomes[0]
    starts = [finding for finding in first.findings if finding.what == "activate"]
    if not starts:
        return f"the device did not start: {first.failure or 'it gave no answer'}"
    return "" if starts[0].state == "ok" else f"the device does not start: {starts[0].why}"


def _say_bad(outcome: Outcome) -> None:
    for finding in outcome.findings:
        if finding.state != "ok":
            say("", f"{finding.what}: {finding.state}, {finding.why}")
