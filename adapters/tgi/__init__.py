"""TGI's own schema, `inputs` and `parameters`: read from callers, asked of containers that speak OpenAI's or TGI's."""
