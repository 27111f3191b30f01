"""The adaptors that speak HTTP and call the handler."""
