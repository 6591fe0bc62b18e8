"""Everything that knows Litestar, uvicorn and the callers' HTTP."""
