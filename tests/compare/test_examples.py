"""Which images are shown: by hand-made margins."""

from __future__ import annotations

import numpy as np

from edge_ad.compare.examples import choose

TYPES = [None, None, "dent", "dent", "dent", "scratch"]


def test_the_hardest_and_the_typical_are_chosen():
    margins = np.array([[-3.0, -1.0, 4.0, 9.0, -2.0, 5.0]])
    assert choose(margins, TYPES) == [
        ("Hardest good part", 1),
        ("Hardest defect", 4),
        ("Typical dent", 2),
        ("Typical scratch", 5),
    ]


def test_the_median_over_methods_decides():
    """One method that finds image 0 very hard is outvoted by two that do not."""
    margins = np.array([[90.0, -1.0, 4, 9, 2, 5], [-3.0, -1.0, 4, 9, 2, 5], [-3.0, -1.0, 4, 9, 2, 5]])
    assert choose(margins, TYPES)[0] == ("Hardest good part", 1)


def test_no_image_is_shown_twice():
    """The only scratch is the hardest defect; it is not shown again as the typical scratch."""
    margins = np.array([[-3.0, -1.0, 4.0, 9.0, 6.0, 0.5]])
    assert [index for _, index in choose(margins, TYPES)] == [1, 5, 4]


def test_many_types_do_not_fill_the_page():
    types = [None, *(f"kind_{index}" for index in range(9))]
    chosen = choose(np.arange(10.0)[None], types)
    assert chosen[2:] == [("Typical kind 1", 2), ("Typical kind 2", 3), ("Typical kind 3", 4)]  # kind 0 is the hardest
