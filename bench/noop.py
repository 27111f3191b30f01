"""What the no-op applications answer: the same bytes as a redirect of ours."""

HEADERS = [
    ("location", "https://example.com/articles/12345?from=bench"),
    ("cache-control", "private, max-age=0"),
    ("content-length", "0"),
]
