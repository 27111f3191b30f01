"""Commands for operators, which connect to PostgreSQL and Redis directly."""
