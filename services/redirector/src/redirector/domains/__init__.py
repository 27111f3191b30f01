"""The domains that the redirector serves."""
