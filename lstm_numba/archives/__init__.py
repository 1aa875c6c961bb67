"""Inference over archives that do not fit in memory: read, computed and written block by block."""
