"""Measures what a draw does instead of sampling it."""

import numpy as np


def shares(draw, n, low=0.0, high=1.0):
    """The length of the part of [low, high) on which `draw` selects each entry, where each part is an interval."""
    found = np.zeros(n)
    stack = [(low, draw(low), high, draw(np.nextafter(high, 0)))]
    while stack:
        left, first, right, last = stack.pop()
        if first == last or right - left < 1e-12:
            found[first] += right - left
        else:
            middle = (left + right) / 2
            stack.append((left, first, middle, draw(np.nextafter(middle, 0))))
            stack.append((middle, draw(middle), right, last))
    return found
