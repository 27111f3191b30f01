"""The relay: delivers every change from the outbox to Redis and to the change feed."""
