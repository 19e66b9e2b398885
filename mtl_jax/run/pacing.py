"""Between compiled calls: how many steps the next one takes, the means to log, and Ctrl-C."""

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mtl_jax.types import Array

SECONDS_A_CALL = 2.0  # how long one compiled call may run before the host looks in


class Window:
    """Means over the steps since the last logged row."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count, self.began = 0, time.perf_counter()

    def add(self, count: int, sums: Mapping[str, Array]) -> None:
        """Take in the sums of `count` more steps."""
        self.count += count
        self.sums = {k: self.sums.get(k, 0.0) + float(v) for k, v in sums.items()}

    def mean(self) -> dict[str, float]:
        """Each metric's mean per step that was taken, and how many were left out, if any were."""
        sums = dict(self.sums)
        skipped = int(sums.pop("skipped", 0))
        taken = self.count - skipped
        mean = {k: v / taken if taken else math.nan for k, v in sums.items()}
        return mean | ({"skipped": skipped} if skipped else {})

    def steps_per_second(self) -> float:
        """Since the window was opened."""
        return self.count / max(time.perf_counter() - self.began, 1e-9)


class Pace:
    """How many steps make a call of about SECONDS_A_CALL: one at first, then up to twice the last each time."""

    def __init__(self) -> None:
        self.steps, self.began = 1, 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        took = time.perf_counter() - self.began
        self.steps = max(1, min(2 * self.steps, int(self.steps * SECONDS_A_CALL / max(took, 1e-6))))


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C, SIGTERM or SIGHUP sets, so that the call under way ends well and is saved.

    A second one does what it usually does. A signal that the process was started to ignore stays ignored.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield pressed
        return
    usual: dict[int, Any] = {}

    def note(*_: object) -> None:
        pressed.set()
        restore()

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # not every system has them all
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            usual[number] = signal.signal(number, note)
    try:
        yield pressed
    finally:
        restore()
