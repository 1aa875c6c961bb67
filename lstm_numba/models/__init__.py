"""Models: recurrent layers with what they read from and answer to, and their losses."""

from __future__ import annotations

from lstm_numba.models.base import Model, SequenceBatch, StepResult, TokenBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.language_model import LanguageModel

__all__ = ["LanguageModel", "Model", "SequenceBatch", "SequenceClassifier", "StepResult", "TokenBatch"]
