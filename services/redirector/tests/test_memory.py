"""What a cached link costs, so that `l1_max_bytes` means bytes."""

import gc
import time
import tracemalloc

from shortcore.cache.local import ENTRY_OVERHEAD_BYTES
from shortcore.cache.record import decode_record, encode_record
from shortcore.links.record import Kind, LinkRecord, link_key

LINKS = 20_000
TARGET = "https://target.example/some/path/that/is/usual?number={:06}"


async def test_the_local_cache_knows_its_size_within_a_tenth(run):
    cache = (await run(l1_max_entries=LINKS, seconds=time.monotonic)).redirector.cache
    wire = [
        encode_record(
            LinkRecord(
                number + 10**6,
                Kind.ACTIVE,
                number + 10**6,
                TARGET.format(number),
                created_at_ms=number + 10**12,
            )
        )
        for number in range(4 * LINKS)  # more than it holds: its tables grow as links come and go
    ]
    gc.collect()
    tracemalloc.start()
    for number, data in enumerate(wire):
        key = link_key("go.example", f"code{number:05}")
        cache.put(key, decode_record(data), read_at=time.monotonic())
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cache) == LINKS
    overhead = used / LINKS - (cache.bytes / LINKS - ENTRY_OVERHEAD_BYTES)
    assert 0.9 < overhead / ENTRY_OVERHEAD_BYTES < 1.1, f"{overhead:.0f} bytes an entry"
