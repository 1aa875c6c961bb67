"""Data sets: loaders, generators, downloads with checksums, batching."""
