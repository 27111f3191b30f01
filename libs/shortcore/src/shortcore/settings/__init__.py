"""All settings of all services. No other module reads the environment.

`loader` reads and validates the settings of a service. `writer`, `relay` and `redirector` declare the
settings of one service each; `shared`, `storage` and `connections` declare those of several services.
`catalog` lists all of them: `make docs` generates docs/configuration.md from it.
"""
