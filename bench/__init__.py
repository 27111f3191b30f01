"""The benchmark: what a redirect and a create cost here, next to what this machine can do."""
