"""Delivers events to webhooks, signed as Standard Webhooks says."""
