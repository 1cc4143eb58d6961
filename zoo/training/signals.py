"""Being asked to stop: a signal sets a flag, and training saves and leaves at the next step boundary."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

EXIT_PREEMPTED = 75
"""Exit code of a training that saved its state because it was asked to stop (EX_TEMPFAIL: try again later)."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT); the state is saved too."""

STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
"""What schedulers send before they kill (SIGTERM; SIGUSR1 with SLURM's `--signal`), and Ctrl-C."""


class Preempted(SystemExit):
    """Training was asked to stop, has saved its state and leaves; uncaught, the process exits with `code`.

    Args:
        message: what happened and how to go on, for people.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = EXIT_PREEMPTED) -> None:
        super().__init__(code)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Context manager that turns signals into a flag; the second Ctrl-C interrupts at once.

    Outside the main thread, where Python allows no signal handlers, it never asks to stop.

    Attributes:
        received: the number of the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in STOP_SIGNALS:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python, and cannot be set from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = number

    @property
    def exit_code(self) -> int:
        """The exit code that says why training stopped."""
        return EXIT_INTERRUPTED if self.received == signal.SIGINT else EXIT_PREEMPTED

    @property
    def reason(self) -> str:
        """The signal's name, or that another process received one."""
        return signal.Signals(self.received).name if self.received is not None else "a signal to another process"


def shield_worker() -> None:
    """Lets a data loader's worker live on when a signal goes to the whole process group.

    Schedulers and terminals signal every process of a job; a worker that dies of it takes the step boundary away at
    which the main process would save. A SIGTERM from the main process itself still ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux; elsewhere SIGTERM keeps its meaning
        # A handler is not told who sent a signal; a thread that waits for it is.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_only, args=(os.getppid(),), daemon=True).start()


def _obey_only(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        continue
    os._exit(0)
