"""Thin adaptors between a server and the redirector."""
