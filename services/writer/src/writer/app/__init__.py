"""The FastAPI application: routes, OpenAPI, middleware."""
