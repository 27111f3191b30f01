"""Statistics on the terminal."""
