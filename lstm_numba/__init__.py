"""Recurrent networks as plain Numba kernels: forward pass and back-propagation through time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lstm_numba._version import __version__

if TYPE_CHECKING:
    from lstm_numba import cells, data, errors, kernels
    from lstm_numba.archives.mapping import map_sequences
    from lstm_numba.errors import GradientError
    from lstm_numba.interop.c.export import save_c
    from lstm_numba.interop.inspection import inspect_weights
    from lstm_numba.interop.json_export import save_json
    from lstm_numba.interop.keras import from_keras, load_keras, save_keras, to_keras
    from lstm_numba.interop.loading import load_weights, read_tensors
    from lstm_numba.interop.onnx.layer_import import load_onnx
    from lstm_numba.interop.onnx.model_export import save_onnx
    from lstm_numba.interop.torch_modules import from_torch, to_torch
    from lstm_numba.interop.weights_file import save_weights
    from lstm_numba.kernels.stream import Stream, stream_step
    from lstm_numba.models.classifier import SequenceClassifier
    from lstm_numba.models.language_model import LanguageModel
    from lstm_numba.models.regressor import SequenceRegressor
    from lstm_numba.nn.clockwork import ClockworkRNN
    from lstm_numba.nn.embedding import Embedding
    from lstm_numba.nn.gradient_check import check_gradients
    from lstm_numba.nn.layers import (
        GRU,
        LSTM,
        RNN,
        SLSTM,
        CoupledLSTM,
        LayerNormGRU,
        LayerNormLSTM,
        PeepholeLSTM,
        UseGateLSTM,
        make_layer,
    )
    from lstm_numba.nn.linear import Linear
    from lstm_numba.nn.losses import cross_entropy, mean_squared_error, regression_loss, softmax
    from lstm_numba.nn.recurrent import Recurrent
    from lstm_numba.nn.register_cell import register_cell
    from lstm_numba.nn.show_cell import show_cell
    from lstm_numba.optim.clipping import clip_norm, clip_values
    from lstm_numba.optim.nt_asgd import NTASGD
    from lstm_numba.optim.optimizers import SGD, Adam, AdamW, RMSprop
    from lstm_numba.optim.schedules import Cosine, HoldThenDecay, Plateau, Schedule
    from lstm_numba.traces.notebook import show
    from lstm_numba.training.array_data import SequenceData
    from lstm_numba.training.evaluation import evaluate, evaluate_models
    from lstm_numba.training.fitting import fit
    from lstm_numba.training.history import History
    from lstm_numba.training.model_fitting import fit_models
    from lstm_numba.training.prediction_stream import PredictionStream, prediction_step
    from lstm_numba.training.tasks import load_run

# Modules are imported when a name is first used, because importing Numba takes a good part of a second.
_MODULES = {
    "RNN": "lstm_numba.nn.layers",
    "LSTM": "lstm_numba.nn.layers",
    "CoupledLSTM": "lstm_numba.nn.layers",
    "UseGateLSTM": "lstm_numba.nn.layers",
    "SLSTM": "lstm_numba.nn.layers",
    "PeepholeLSTM": "lstm_numba.nn.layers",
    "LayerNormLSTM": "lstm_numba.nn.layers",
    "LayerNormGRU": "lstm_numba.nn.layers",
    "ClockworkRNN": "lstm_numba.nn.clockwork",
    "GRU": "lstm_numba.nn.layers",
    "Recurrent": "lstm_numba.nn.recurrent",
    "make_layer": "lstm_numba.nn.layers",
    "register_cell": "lstm_numba.nn.register_cell",
    "check_gradients": "lstm_numba.nn.gradient_check",
    "show": "lstm_numba.traces.notebook",
    "show_cell": "lstm_numba.nn.show_cell",
    "GradientError": "lstm_numba.errors",
    "Stream": "lstm_numba.kernels.stream",
    "stream_step": "lstm_numba.kernels.stream",
    "load_weights": "lstm_numba.interop.loading",
    "read_tensors": "lstm_numba.interop.loading",
    "inspect_weights": "lstm_numba.interop.inspection",
    "save_weights": "lstm_numba.interop.weights_file",
    "from_keras": "lstm_numba.interop.keras",
    "load_keras": "lstm_numba.interop.keras",
    "save_json": "lstm_numba.interop.json_export",
    "save_keras": "lstm_numba.interop.keras",
    "to_keras": "lstm_numba.interop.keras",
    "save_c": "lstm_numba.interop.c.export",
    "load_onnx": "lstm_numba.interop.onnx.layer_import",
    "save_onnx": "lstm_numba.interop.onnx.model_export",
    "from_torch": "lstm_numba.interop.torch_modules",
    "to_torch": "lstm_numba.interop.torch_modules",
    "SequenceClassifier": "lstm_numba.models.classifier",
    "LanguageModel": "lstm_numba.models.language_model",
    "SequenceRegressor": "lstm_numba.models.regressor",
    "Embedding": "lstm_numba.nn.embedding",
    "Linear": "lstm_numba.nn.linear",
    "cross_entropy": "lstm_numba.nn.losses",
    "mean_squared_error": "lstm_numba.nn.losses",
    "regression_loss": "lstm_numba.nn.losses",
    "softmax": "lstm_numba.nn.losses",
    "clip_norm": "lstm_numba.optim.clipping",
    "clip_values": "lstm_numba.optim.clipping",
    "NTASGD": "lstm_numba.optim.nt_asgd",
    "SGD": "lstm_numba.optim.optimizers",
    "Adam": "lstm_numba.optim.optimizers",
    "AdamW": "lstm_numba.optim.optimizers",
    "RMSprop": "lstm_numba.optim.optimizers",
    "Cosine": "lstm_numba.optim.schedules",
    "HoldThenDecay": "lstm_numba.optim.schedules",
    "Plateau": "lstm_numba.optim.schedules",
    "Schedule": "lstm_numba.optim.schedules",
    "SequenceData": "lstm_numba.training.array_data",
    "evaluate": "lstm_numba.training.evaluation",
    "evaluate_models": "lstm_numba.training.evaluation",
    "fit": "lstm_numba.training.fitting",
    "fit_models": "lstm_numba.training.model_fitting",
    "History": "lstm_numba.training.history",
    "PredictionStream": "lstm_numba.training.prediction_stream",
    "prediction_step": "lstm_numba.training.prediction_stream",
    "load_run": "lstm_numba.training.tasks",
    "map_sequences": "lstm_numba.archives.mapping",
}

#: Modules that are public as a whole. `lstm_numba.estimators` is too, but it needs an extra: import it.
_PUBLIC_MODULES = ("cells", "data", "errors", "kernels")

__all__ = [
    "GRU",
    "LSTM",
    "NTASGD",
    "RNN",
    "SGD",
    "SLSTM",
    "Adam",
    "AdamW",
    "ClockworkRNN",
    "Cosine",
    "CoupledLSTM",
    "Embedding",
    "GradientError",
    "History",
    "HoldThenDecay",
    "LanguageModel",
    "LayerNormGRU",
    "LayerNormLSTM",
    "Linear",
    "PeepholeLSTM",
    "Plateau",
    "PredictionStream",
    "RMSprop",
    "Recurrent",
    "Schedule",
    "SequenceClassifier",
    "SequenceData",
    "SequenceRegressor",
    "Stream",
    "UseGateLSTM",
    "__version__",
    "cells",
    "check_gradients",
    "clip_norm",
    "clip_values",
    "cross_entropy",
    "data",
    "errors",
    "evaluate",
    "evaluate_models",
    "fit",
    "fit_models",
    "from_keras",
    "from_torch",
    "inspect_weights",
    "kernels",
    "load_keras",
    "load_onnx",
    "load_run",
    "load_weights",
    "make_layer",
    "map_sequences",
    "mean_squared_error",
    "prediction_step",
    "read_tensors",
    "register_cell",
    "regression_loss",
    "save_c",
    "save_json",
    "save_keras",
    "save_onnx",
    "save_weights",
    "show",
    "show_cell",
    "softmax",
    "stream_step",
    "to_keras",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC_MODULES:
        return import_module(f"lstm_numba.{name}")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'lstm_numba' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
