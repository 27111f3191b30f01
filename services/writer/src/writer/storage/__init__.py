"""How the writer uses PostgreSQL: reads from a replica, and adaptive batches."""
