"""Python's collector of cycles, for servers whose requests leave none behind."""

import gc


def collect_seldom() -> None:
    """Collect seldom from now on; what is there now is there for good."""
    # Each full collection walks all that is kept (cached links, a batch under way): with Python's
    # own thresholds that is a tenth of the time, in pauses of tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
