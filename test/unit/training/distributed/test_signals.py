import os
import signal

import pytest

from training.distributed import StopRequest


def test_the_first_signal_only_asks_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert stop.signal_name == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_echo_of_the_signal_is_the_same_request():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_name == "SIGINT"


def _ends_after(numbers, echo_s=0.0):
    """Give the status of a process that gets these signals one after the other and ends with 0 if it lives."""
    child = os.fork()
    if child == 0:
        with StopRequest(echo_s) as stop:
            for number in numbers:
                os.kill(os.getpid(), number)
            os._exit(0 if stop.requested else 1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_a_launcher_repeats_is_the_same_request_however_late(number):
    assert _ends_after([number] * 5) == 0
    assert _ends_after([signal.SIGINT, number, number]) == 0


def test_ctrl_c_twice_ends_the_process():
    assert _ends_after([signal.SIGINT, signal.SIGINT]) == 128 + signal.SIGINT
    assert _ends_after([signal.SIGTERM, signal.SIGINT]) == 0
    assert _ends_after([signal.SIGTERM, signal.SIGINT, signal.SIGINT]) == 128 + signal.SIGINT
    assert _ends_after([signal.SIGINT, signal.SIGINT], echo_s=60.0) == 0


def test_a_forked_child_leaves_at_once():
    with StopRequest():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
