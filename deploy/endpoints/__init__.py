"""Manifests ready to go. What models of a family have in common is in deploy/families.py."""
