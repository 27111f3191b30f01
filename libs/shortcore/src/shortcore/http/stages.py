"""Where the parser of a connection stands: between two requests, in a head, or in a body.

Plain numbers, not an enum: every request compares them several times. Trailers belong to the body.
"""

BETWEEN, HEAD, BODY = range(3)
