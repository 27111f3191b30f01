"""The handler: answers a request for a short link."""
