"""Webhooks: URLs to which events are sent; the worker delivers them."""
