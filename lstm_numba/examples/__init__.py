"""Kernels inside other people's programs, run by ``python -m``: controller, closure, streams, c_callbacks."""
