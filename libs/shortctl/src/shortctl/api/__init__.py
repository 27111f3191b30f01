"""A client of the API: an HTTP connection, options, errors."""
