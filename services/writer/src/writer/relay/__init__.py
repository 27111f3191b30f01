"""The relay: carries every change from the outbox to Redis."""
