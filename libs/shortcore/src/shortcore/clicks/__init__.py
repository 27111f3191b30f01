"""Clicks on their way from the redirector to the worker."""
