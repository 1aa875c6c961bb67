"""Trains the MNIST and Penn Treebank models in plain PyTorch, to compare with `lstm-numba train`.

Model, distribution of initial weights, loss scaling, clipping, optimizer, batches and carried state are those
of the command line's presets. The data come from this project's loaders, so that both programs have batches
of the same shapes.

    python benchmarks/pytorch_epochs.py mnist --cell lstm --epochs 2 --data-dir DATA
    python benchmarks/pytorch_epochs.py ptb --preset small --epochs 1 --data-dir DATA
    python benchmarks/pytorch_epochs.py ptb --preset medium --device cuda --data-dir DATA

On a GPU the layers are cuDNN's, in float32 without TF32. The data are in its memory from the start, and
losses are summed there, so that the program waits for the GPU ten times per epoch and not at every step.

Prints one JSON object per line.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np
import torch

from lstm_numba.training.presets import PRESETS

CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


class Classifier(torch.nn.Module):
    """Recurrent layer, and a linear layer on its last output."""

    def __init__(self, cell: str, hidden: int) -> None:
        super().__init__()
        self.rnn = CELLS[cell](28, hidden)
        self.output = torch.nn.Linear(hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.rnn(x)
        return self.output(y[-1])


class LanguageModel(torch.nn.Module):
    """Zaremba et al. 2014: dropout on the non-recurrent connections only."""

    def __init__(self, vocabulary: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, hidden)
        self.rnn = torch.nn.LSTM(hidden, hidden, 2, dropout=dropout)
        self.output = torch.nn.Linear(hidden, vocabulary)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        y, state = self.rnn(self.dropout(self.embedding(x)), state)
        return self.output(self.dropout(y)).flatten(0, 1), state


def report(device: str, **fields: Any) -> None:
    """Print one result."""
    about: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device}
    if device == "cuda":
        about.update(gpu=torch.cuda.get_device_name(), cudnn=torch.backends.cudnn.version())
    print(json.dumps({**about, **fields}), flush=True)


class Losses:
    """Sum of an epoch's losses, on the device, and ten points of the loss curve, as `lstm-numba train` logs.

    Parameters
    ----------
    device : str
    before, steps : int
        Steps in earlier epochs, and in this one.
    """

    def __init__(self, device: str, before: int, steps: int) -> None:
        self._total = torch.zeros((), dtype=torch.float64, device=device)
        self._before, self._step, self._every = before, 0, max(1, steps // 10)
        self._last = (0.0, 0)
        self.count = 0
        self.curve: list[tuple[int, float]] = []

    def add(self, mean: torch.Tensor, count: int) -> None:
        """Add a step's mean loss over `count` predictions."""
        self._total += mean.detach() * count
        self.count += count
        self._step += 1
        if self._step % self._every == 0:
            total, (last, counted) = float(self._total), self._last
            self.curve.append((self._before + self._step, (total - last) / (self.count - counted)))
            self._last = total, self.count

    @property
    def mean(self) -> float:
        """The epoch's mean loss; waits for the device."""
        return float(self._total) / self.count


def images(args: argparse.Namespace) -> None:
    """Adam on cross-entropy, clipped gradients, shuffled batches; test accuracy after every epoch."""
    from lstm_numba.data import digits, mnist
    from lstm_numba.data.images import image_sequences

    train, test = (
        mnist.load(split, args.data_dir) if args.task == "mnist" else digits.load(split)
        for split in ("train", "test")
    )
    x = torch.from_numpy(np.ascontiguousarray(image_sequences(train.images, "rows").transpose(1, 0, 2)))
    x, labels = x.to(args.device), torch.from_numpy(train.labels.astype(np.int64)).to(args.device)
    x_test = torch.from_numpy(image_sequences(test.images, "rows")).to(args.device)
    model = Classifier(args.cell, args.hidden).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    steps = math.ceil(len(x) / args.batch_size)
    for epoch in range(args.epochs):
        begin = time.perf_counter()
        losses = Losses(args.device, epoch * steps, steps)
        order = torch.randperm(len(x), device=args.device)
        for first in range(0, len(x), args.batch_size):
            rows = order[first : first + args.batch_size]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                model(x[rows].transpose(0, 1).contiguous()), labels[rows]
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            losses.add(loss, len(rows))
        mean = losses.mean
        seconds = time.perf_counter() - begin
        with torch.no_grad():
            hits = (model(x_test).argmax(1).cpu().numpy() == test.labels).mean()
        report(args.device, task=args.task, cell=args.cell, hidden=args.hidden, epoch=epoch + 1,
               seconds=round(seconds, 3), loss=mean, curve=losses.curve,
               test_accuracy=float(hits))  # fmt: skip


def text(args: argparse.Namespace) -> None:
    """SGD; the loss is summed over time and averaged over the batch before clipping."""
    from lstm_numba.data import ptb

    preset = PRESETS[args.preset]
    schedule = preset["schedule_options"]
    corpus = ptb.load(args.data_dir)
    batch, bptt = 20, int(preset["bptt"])
    model = LanguageModel(len(corpus.vocabulary), int(preset["hidden"]), preset["dropout"])
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -preset["init_range"], preset["init_range"])
    model.to(args.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    ids = torch.from_numpy(corpus.splits["train"].astype(np.int64))
    length = len(ids) // batch
    columns = ids[: length * batch].reshape(batch, length).t().contiguous().to(args.device)
    windows = (length - 1) // bptt if args.windows is None else args.windows
    for epoch in range(args.epochs):
        optimizer.param_groups[0]["lr"] = schedule["decay"] ** max(epoch + 1 - schedule["hold"], 0)
        begin = time.perf_counter()
        losses, state = Losses(args.device, epoch * windows, windows), None
        for window in range(windows):
            x = columns[window * bptt : (window + 1) * bptt]
            y = columns[window * bptt + 1 : (window + 1) * bptt + 1]
            optimizer.zero_grad()
            logits, state = model(x, state)
            state = tuple(s.detach() for s in state)
            loss = torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum") / batch
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), preset["clip"])
            optimizer.step()
            losses.add(loss / bptt, y.numel())
        mean = losses.mean
        seconds = time.perf_counter() - begin
        report(args.device, task="ptb", preset=args.preset, epoch=epoch + 1, windows=windows,
               seconds=round(seconds, 2), seconds_per_window=seconds / windows, loss=mean,
               curve=losses.curve, train_perplexity=math.exp(mean))  # fmt: skip


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["mnist", "digits", "ptb"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cell", choices=sorted(CELLS), default="lstm")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--windows", type=int, help="stop an epoch of ptb after so many windows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    (text if args.task == "ptb" else images)(args)


if __name__ == "__main__":
    main()
