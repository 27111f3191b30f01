"""Links with a password: the form, the check and its limits, and the cookie."""
