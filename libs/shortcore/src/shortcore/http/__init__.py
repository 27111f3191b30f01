"""HTTP connections: framing, deadlines and limits."""
