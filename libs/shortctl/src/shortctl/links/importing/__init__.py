"""The command `shortctl links import`: batches, retries, checkpoints and reports."""
