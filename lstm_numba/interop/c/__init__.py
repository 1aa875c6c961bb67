"""Layers and models as C99 headers."""
