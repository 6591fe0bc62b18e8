"""Sans-IO translation between the public dialects and the containers' own: values and bytes in, and out."""
