"""How the writer asks PostgreSQL: reads from a replica, and many requests in one query."""
