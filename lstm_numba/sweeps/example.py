"""A file to begin with: ``lstm-numba sweep --example``."""

from __future__ import annotations

EXAMPLE = """\
# lstm-numba sweep FILE
#
# Names are those of the options of "lstm-numba train ...", without the dashes before them.

command = "train digits"    # or mnist, ptb, text, series, images, grammar

trials = 20                 # in all, whoever trains them; more of them later is fine
# metric = "loss"           # of the best epoch, on valid: loss, accuracy, perplexity, mae, rmse, ...
# sampler = "tpe"           # or random, grid
# startup_trials = 10       # trials at random before tpe learns from them
# pruner = "median"         # gives a trial up that is worse than the median so far; or hyperband, none
# warmup_epochs = 1         # epochs that are never given up
# seed = 0                  # of the sampler

[fixed]                     # what all trials share
images = 2000
epochs = 5
batch_size = 50
# file = "book.txt"         # for train text; seen from the folder of this file

[ranges]                    # what is tried
lr = {low = 1e-4, high = 1e-1, log = true}
hidden = {low = 16, high = 64, step = 16}
cell = ["lstm", "gru", "rnn"]
optimizer = ["adam", "sgd"]
momentum = {low = 0.0, high = 0.95, when = {optimizer = "sgd"}}
"""
