"""Recurrent networks as scikit-learn estimators; needs scikit-learn, which the extra ``sklearn`` installs."""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise ImportError("lstm_numba.estimators needs scikit-learn: pip install 'lstm_numba[sklearn]'") from None

from lstm_numba.estimators.classifier import RNNClassifier
from lstm_numba.estimators.forecaster import RNNForecaster
from lstm_numba.estimators.regressor import RNNRegressor

__all__ = ["RNNClassifier", "RNNForecaster", "RNNRegressor"]
