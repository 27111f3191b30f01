"""What endpoints are made of."""
