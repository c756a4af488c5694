"""Ctrl-C, SIGTERM and SIGHUP: at any moment a quiet end, with what was finished kept and the rest tidied away.

    at once ──▶ until the command begins: there is nothing to tidy, the process ends
            ──▶ while it runs: KeyboardInterrupt, so that everything is undone on the way out
            ──▶ within 2 seconds of the first: ignored, people press twice
            ──▶ later: the process ends; what it leaves is undone by the next run

SIGTERM and SIGHUP end the process after 20 seconds in any case: Python hears of a signal only between two calls of native code.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from time import monotonic
from types import FrameType, TracebackType

__all__ = ["Ending", "ending"]

_TWICE = 2.0  # seconds in which a second signal is the same wish
_LONGEST = 20.0  # seconds that tidying may take after SIGTERM


class Ending:
    """What is known about the end that was asked for.

    Attributes:
        signal: The signal that asked for it; 0 for none.
        running: A command runs, which has to be interrupted rather than left.
    """

    def __init__(self) -> None:
        self.signal, self.running = 0, False
        self._asked = 0.0

    def status_after(self, status: int) -> int:
        """The exit status of a command that ended with another one; Ctrl-C is how one ends a camera, a server or a worker."""
        return 128 + self.signal if self.signal and (status == 1 or self.signal != signal.SIGINT) else status

    def install(self) -> None:
        """Handle the signals from now on, except those that whoever started the process has it ignore."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._heard)
        sys.unraisablehook = self._unraisable

    def watch(self) -> None:
        """See that SIGTERM ends the process even if native code does not return."""
        if os.name == "nt" or threading.current_thread() is not threading.main_thread():
            return
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=_end_in_time, args=(read,), name="graphsplit-signals", daemon=True).start()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if not self.running:
            os._exit(128 + number)
        now = monotonic()
        if not self.signal:
            self.signal, self._asked = number, now
            raise KeyboardInterrupt
        if now - self._asked > _TWICE:
            os._exit(128 + self.signal)

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """An interrupt that came while an object was collected would be lost there; it is raised again."""
        if self.signal and issubclass(unraisable.exc_type, KeyboardInterrupt):
            number, self.signal = self.signal, 0  # not from here, where it would be lost as well
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        else:
            sys.__unraisablehook__(unraisable)

    def show(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """An error that nobody has caught, without what a terminal would obey; nothing once an end was asked for."""
        if self.signal or issubclass(kind, KeyboardInterrupt):
            return
        import traceback

        from graphsplit.cli.terminal import complain

        complain("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), lines=True)


def _end_in_time(read: int) -> None:
    while heard := os.read(read, 1):
        if heard[0] in (signal.SIGTERM, getattr(signal, "SIGHUP", 0)):
            threading.Event().wait(_LONGEST)
            os._exit(128 + heard[0])


#: Of this process.
ending = Ending()
