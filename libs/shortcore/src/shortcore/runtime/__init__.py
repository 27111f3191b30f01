"""What every process has: admin port, health, drain, background tasks, logs, metrics."""
