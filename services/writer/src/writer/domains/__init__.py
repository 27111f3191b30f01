"""Domains: the hosts that short links live on."""
