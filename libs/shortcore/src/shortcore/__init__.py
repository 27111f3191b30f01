"""What the services of Shortlinks share; imports no service and no web framework."""
