"""Progress for long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["Progress"]

LOG_INTERVAL_S = 20.0


class Progress:
    """Counts steps towards a known total and shows them on standard error.

    Args:
        what: What is being done, as a short phrase ("training", "int8 ranges").
        total: Number of steps.
        done: Steps already done, when work resumes.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what, self.total, self.done = what, total, done
        self._resumed = done
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=what, initial=done, dynamic_ncols=True, leave=True)

    def step(self, count: int = 1, **shown: object) -> None:
        """Advance by `count` steps; `shown` are named figures to display beside the count."""
        self.done += count
        if self._bar is not None:
            if shown:
                self._bar.set_postfix({name: str(value) for name, value in shown.items()}, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last_line > LOG_INTERVAL_S:
            self._last_line = time.monotonic()
            self._line(**shown)

    def _line(self, **shown: object) -> None:
        figures = " ".join(f"{name}={value}" for name, value in shown.items())
        seconds = time.monotonic() - self._started
        rate = f"{(self.done - self._resumed) / seconds:.3g}/s" if seconds else ""
        line = f"{self.what}: {self.done}/{self.total} {seconds:.0f} s {rate} {figures}"
        print(line.rstrip(), file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._line()
