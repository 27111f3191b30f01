"""The redirector: answers short links from the local cache, Redis, or PostgreSQL."""
