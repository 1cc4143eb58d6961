"""Stopping on signals: a signal sets a flag, and training saves its state and stops at the next step boundary."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

EXIT_PREEMPTED = 75
"""Exit code of a training that was asked to stop and has saved its state (EX_TEMPFAIL: try again later)."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells (128 + SIGINT); the state is saved as well."""

STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT")
"""Signals that schedulers send before killing a job (SIGTERM; SIGUSR1 with SLURM's `--signal`), the end of the terminal
or connection (SIGHUP), and Ctrl-C."""


class Preempted(SystemExit):
    """Raised when training was asked to stop and has saved its state. If not caught, the process exits with `code`.

    Args:
        message: What happened and how to continue.
        code: Exit code.
    """

    def __init__(self, message: str, code: int = EXIT_PREEMPTED) -> None:
        super().__init__(code)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Context manager that converts signals to a flag; a second Ctrl-C interrupts immediately.

    A signal that the process ignores stays ignored: `nohup` ignores SIGHUP, and shells ignore SIGINT in the background
    jobs of scripts. It has no effect outside of the main thread, where Python does not allow signal handlers.

    Attributes:
        received: Number of the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in STOP_SIGNALS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            # None means that the handler was not set from Python, so it cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = number

    @property
    def exit_code(self) -> int:
        """The exit code for the signal."""
        return EXIT_INTERRUPTED if self.received == signal.SIGINT else EXIT_PREEMPTED

    @property
    def reason(self) -> str:
        """Name of the signal, or a note that another process received one."""
        return signal.Signals(self.received).name if self.received is not None else "a signal to another process"


def shield_worker() -> None:
    """Makes a data loader's worker ignore signals that are sent to the complete process group.

    Schedulers and terminals send signals to every process of a job. If workers exited, the main process could not reach
    the next step boundary to save. A SIGTERM from the main process itself still ends the worker.
    """
    for name in STOP_SIGNALS:
        if name != "SIGTERM" and hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux; elsewhere SIGTERM still ends the worker
        # A signal handler does not know the sender, unlike a thread that waits for the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_from, args=(os.getppid(),), daemon=True).start()


def _exit_on_sigterm_from(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        continue
    os._exit(0)
