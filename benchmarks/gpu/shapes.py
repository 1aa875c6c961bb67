"""The six shapes by which the CUDA engine is judged."""

from __future__ import annotations

from lstm_numba.benchmarks.cases import SHAPES, Shape

SIX = {
    shape.name: shape
    for shape in (
        *(SHAPES[name] for name in ("mnist", "ptb-small", "ptb-medium", "ptb-large")),
        Shape("single", 1, 1000, 64, 256),
        Shape("long", 16, 1024, 768, 768),
    )
}
