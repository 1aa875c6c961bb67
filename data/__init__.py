"""Data sets: loading, drawing, downloading, verifying, and cutting into batches.

=========  ===================================================================================
`mnist`    handwritten digits, from a folder, the cache or the network
`digits`   drawn digits in MNIST's format, made by the program
`ptb`      Penn Treebank as language models are measured on it
`text`     a user's own text file, by characters or words
`grammar`  sentences of a random grammar whose entropy is known, made by the program
=========  ===================================================================================

Damaged, missing or foreign files raise `lstm_numba.errors.DataError` with one line that names the file and
the fault.
"""

from __future__ import annotations

from lstm_numba.data.batching import (
    BatchOrder,
    ContiguousBatches,
    EvaluationRows,
    EvaluationWindow,
    evaluation_rows,
    held_out,
)
from lstm_numba.data.corpus import Corpus
from lstm_numba.data.images import Images, image_sequences

__all__ = [
    "BatchOrder",
    "ContiguousBatches",
    "Corpus",
    "EvaluationRows",
    "EvaluationWindow",
    "Images",
    "evaluation_rows",
    "held_out",
    "image_sequences",
]
