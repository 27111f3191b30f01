"""The parts of every process: server, drain, background tasks, admin port, logs, metrics."""
