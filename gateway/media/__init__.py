"""Images and other parts of prompts: fetched from where it is safe to, checked, cached, and made to fit SageMaker."""
