"""
Train on generated digits
=========================

An LSTM reads each image row by row, 28 steps of 28 features, and its last output gives the class. Generated
digits need no download.
"""

import matplotlib.pyplot as plt

import lstm_numba as ln
from lstm_numba.data import digits, image_sequences

train, test = digits.load("train", count=2000), digits.load("test", count=500)
x, x_test = (image_sequences(images).swapaxes(0, 1) for images in (train, test))  # (N, T, F)

# %%
# `lstm_numba.fit` takes arrays. The history has a dictionary of numbers per epoch.

model = ln.SequenceClassifier(28, 32, 10, cell="lstm", seed=0)
history = ln.fit(
    model, (x, train.labels), validation=(x_test, test.labels), epochs=8, lr=0.005, seed=0, verbose=False
)
for name in history.epochs[0]:
    print(name, [round(epoch[name], 3) for epoch in history.epochs])

# %%
# Losses by epoch; the test digits took no part in training.

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, style in {"loss": "-", "valid_loss": "--"}.items():
    losses = [epoch[name] for epoch in history.epochs]
    axes.plot(range(1, len(losses) + 1), losses, style, label=name)
axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
axes.legend()
