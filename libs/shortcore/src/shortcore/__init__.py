"""Code that all services of Shortlinks share; it imports no service and no web framework."""
