"""lmi-gateway: an OpenAI-compatible gateway in front of Amazon SageMaker endpoints."""

__version__ = "0.1.0"
