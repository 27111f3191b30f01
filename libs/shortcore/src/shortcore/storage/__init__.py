"""PostgreSQL and Redis, with deadlines and circuit breakers."""
