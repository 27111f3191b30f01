"""Access of the writer to PostgreSQL: reads from a replica, and adaptive batches."""
