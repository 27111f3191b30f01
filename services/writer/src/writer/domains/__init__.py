"""Domains: the hosts under which short links exist."""
