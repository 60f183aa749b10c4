"""Signals that wait while a job is begun or ended."""

import os
import signal
import threading

import pytest

from undercroft.adapters.libvirt.termination import OrderlyTermination


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_raises_and_the_handlers_are_given_back(
    number: signal.Signals, expected: type[BaseException]
) -> None:
    # As a program is begun in the foreground: what a shell runs in the background ignores SIGINT.
    begun_with = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, begun_with)
    try:
        with pytest.raises(expected), OrderlyTermination():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is begun_with
    finally:
        signal.signal(number, before)


def test_a_signal_waits_for_the_end_of_the_critical_part() -> None:
    done = []
    with OrderlyTermination() as termination:
        termination.critical = True
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("the job was ended")
        with pytest.raises(SystemExit) as raised:
            termination.release()
        termination.release()
    assert (done, raised.value.code) == (["the job was ended"], 128 + signal.SIGTERM)


def test_a_programs_own_handler_is_kept() -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        with OrderlyTermination():
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with OrderlyTermination():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
