"""How far long work is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Progress", "Steps", "no_progress"]

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and how much there is to do."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


class Steps:
    """Tells ``progress`` what is done of ``total`` steps, from any thread."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress: Progress = progress
        self.total: int = total
        self.done: int = 0
        self._lock = threading.Lock()
        progress(0, total)

    def __call__(self, count: int) -> None:
        """Count more steps as done."""
        with self._lock:
            self.done += count
            self.progress(self.done, self.total)

    def after(self, result: T) -> T:
        """Count one step as done, and return its ``result``."""
        self(1)
        return result
