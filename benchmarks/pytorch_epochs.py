"""Train the MNIST and Penn Treebank models in plain PyTorch, for time and result beside `lstm-numba train`.

The same arithmetic as the command line's presets: model, initial weights' distribution, loss scaling,
clipping, optimiser, batches, state carry. Data come through this project's own loaders, so that both
programs see the same batches' shapes.

    python benchmarks/pytorch_epochs.py mnist --cell lstm --epochs 2 --data-dir DATA
    python benchmarks/pytorch_epochs.py ptb --preset small --epochs 1 --data-dir DATA

Prints one JSON object a line.
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
    """Recurrent layer, last output, linear."""

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


def report(**fields: Any) -> None:
    """Print one result."""
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), **fields}), flush=True)


def mnist(args: argparse.Namespace) -> None:
    """Adam on cross-entropy, clipped gradients, shuffled batches; test accuracy after every epoch."""
    from lstm_numba.data import mnist as data
    from lstm_numba.data.images import image_sequences

    train, test = (data.load(split, args.data_dir) for split in ("train", "test"))
    x = torch.from_numpy(np.ascontiguousarray(image_sequences(train.images, "rows").transpose(1, 0, 2)))
    labels = torch.from_numpy(train.labels.astype(np.int64))
    x_test = torch.from_numpy(image_sequences(test.images, "rows"))
    model = Classifier(args.cell, args.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        begin = time.perf_counter()
        total = 0.0
        order = torch.randperm(len(x))
        for first in range(0, len(x), args.batch_size):
            rows = order[first : first + args.batch_size]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                model(x[rows].transpose(0, 1).contiguous()), labels[rows]
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        seconds = time.perf_counter() - begin
        with torch.no_grad():
            hits = (model(x_test).argmax(1).numpy() == test.labels).mean()
        report(task="mnist", cell=args.cell, hidden=args.hidden, epoch=epoch + 1, seconds=round(seconds, 3),
               loss=total / len(x), test_accuracy=float(hits))  # fmt: skip


def ptb(args: argparse.Namespace) -> None:
    """SGD; the loss is summed over time and averaged over the batch before clipping."""
    from lstm_numba.data import ptb as data

    preset = PRESETS[args.preset]
    schedule = preset["schedule_options"]
    corpus = data.load(args.data_dir)
    batch, bptt = 20, int(preset["bptt"])
    model = LanguageModel(len(corpus.vocabulary), int(preset["hidden"]), preset["dropout"])
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -preset["init_range"], preset["init_range"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    ids = torch.from_numpy(corpus.splits["train"].astype(np.int64))
    length = len(ids) // batch
    columns = ids[: length * batch].reshape(batch, length).t().contiguous()
    for epoch in range(args.epochs):
        optimizer.param_groups[0]["lr"] = schedule["decay"] ** max(epoch + 1 - schedule["hold"], 0)
        begin = time.perf_counter()
        total, count, state = 0.0, 0, None
        windows = (length - 1) // bptt if args.windows is None else args.windows
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
            total += float(loss.detach()) * batch
            count += y.numel()
        seconds = time.perf_counter() - begin
        report(task="ptb", preset=args.preset, epoch=epoch + 1, windows=windows, seconds=round(seconds, 2),
               seconds_per_window=seconds / windows, train_perplexity=math.exp(total / count))  # fmt: skip


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["mnist", "ptb"])
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
    {"mnist": mnist, "ptb": ptb}[args.task](args)


if __name__ == "__main__":
    main()
