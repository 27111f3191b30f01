"""What the fixtures of the root conftest are made of."""
