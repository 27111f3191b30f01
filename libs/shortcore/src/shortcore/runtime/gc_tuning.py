"""Tunes the garbage collector for servers whose requests create no reference cycles."""

import gc


def collect_seldom() -> None:
    """Make collections rare, and exclude all objects that exist now from them."""
    # A full collection visits all objects, such as cached links. With the default thresholds this
    # takes a tenth of the time of the process, in pauses of tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
