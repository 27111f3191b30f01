"""The API as its clients use it: an HTTP connection, options, errors."""
