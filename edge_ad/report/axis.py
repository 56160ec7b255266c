"""An axis of a chart, and figures as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Axis", "figure"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis from `low` to `high`; `log` needs low > 0."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 (left) to 1 (right); values outside go to the nearer end."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        inside = min(max(value, self.low), self.high)
        return (self._scaled(inside) - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Four to eight round values, or decades with 2 and 5 on a log axis."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first <= 3 else (1,)
            values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        else:
            rough = (self.high - self.low) / 5
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
            first = math.ceil(self.low / step)
            values = [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [value for value in values if self.low <= value <= self.high * (1 + 1e-9)]


def figure(value: float) -> str:
    """A number with three significant digits, without an exponent where it reads well."""
    size = abs(value)
    if value == 0 or 1e-3 <= size < 1e6:
        decimals = 0 if size >= 100 else 2 - math.floor(math.log10(size)) if size else 0
        return f"{value:,.{max(0, decimals)}f}"
    return f"{value:.2e}"
