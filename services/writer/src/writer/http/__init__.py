"""Building blocks of endpoints: bodies, errors, pages, responses."""
