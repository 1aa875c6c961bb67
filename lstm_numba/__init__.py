"""Recurrent networks as plain Numba kernels: forward pass and back-propagation through time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lstm_numba.layers import GRU, LSTM, RNN, PeepholeLSTM, Recurrent, make_layer
    from lstm_numba.stream import Stream, stream_step

# Numba takes a good part of a second to import: it is imported with the first name that needs it.
_HOMES = {
    "RNN": "lstm_numba.layers",
    "LSTM": "lstm_numba.layers",
    "PeepholeLSTM": "lstm_numba.layers",
    "GRU": "lstm_numba.layers",
    "Recurrent": "lstm_numba.layers",
    "make_layer": "lstm_numba.layers",
    "Stream": "lstm_numba.stream",
    "stream_step": "lstm_numba.stream",
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "PeepholeLSTM",
    "Recurrent",
    "Stream",
    "__version__",
    "make_layer",
    "stream_step",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lstm_numba' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
