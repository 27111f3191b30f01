"""Links in Redis and in the process: keys, wire form, compare-and-set, local cache."""
