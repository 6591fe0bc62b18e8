"""How a container cuts its reply into records, undone incrementally: bytes in, whole payloads out."""
