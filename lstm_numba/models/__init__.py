"""Models for a task: recurrent layers with input and output layers and a loss."""

from __future__ import annotations

from lstm_numba.models.base import Model, SequenceBatch, StepResult, TokenBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.headed import headed_model
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.models.regressor import SequenceRegressor

__all__ = [
    "LanguageModel",
    "Model",
    "SequenceBatch",
    "SequenceClassifier",
    "SequenceRegressor",
    "StepResult",
    "TokenBatch",
    "headed_model",
]
