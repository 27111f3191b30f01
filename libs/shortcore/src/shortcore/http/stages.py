"""The stages of a connection's parser: between two requests, in a head, or in a body.

They are plain numbers and not an enum, because every request compares them several times. Trailers
belong to the body.
"""

BETWEEN, HEAD, BODY = range(3)
