"""The trainings whose results stand on the pages, and their commands."""

from __future__ import annotations

from typing import NamedTuple


class Training(NamedTuple):
    """A training.

    Attributes
    ----------
    name : str
        Of its folder.
    dataset : str
        What `lstm-numba train` is followed by.
    options : str
        The options after it, without those of the machine: threads, folders.
    cells : tuple of str
        Cells that are trained, each a run of its own; empty: the default.
    """

    name: str
    dataset: str
    options: str = ""
    cells: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command line."""
        words = ["lstm-numba train", self.dataset, self.options, *(f"--cell {cell}" for cell in self.cells)]
        return " ".join(word for word in words if word)

    @property
    def is_set(self) -> bool:
        """Whether one command trains all its cells and seeds as a set of runs."""
        return "--seeds" in self.options.split()


#: Cells that are trained with one seed; the LSTM and the GRU have five.
_CELLS = (
    "rnn", "rnn-relu", "coupled", "peephole", "peephole-full", "use-gate", "slstm", "gru-reset-before",
    "layer-norm-lstm", "layer-norm-gru", "clockwork",
)  # fmt: skip
#: The cell that reads all pixels one by one: in the first epochs of a trial it was ahead of a plain GRU.
_PERMUTED = ("layer-norm-gru",)
#: The small AWD-LSTM, and what is taken away from it, one at a time.
_AWD = {
    "awd-small": "",
    "awd-small-no-weight-drop": "--weight-drop 0",
    "awd-small-no-locked-dropout": "--dropout-kind element",
    "awd-small-untied": "--no-tie",
    "awd-small-sgd": "--optimizer sgd",
}
TRAININGS: dict[str, Training] = {
    training.name: training
    for training in (
        Training("mnist-seeds", "mnist", "--validation 0 --seeds 5", ("lstm", "gru")),
        Training("mnist-cells", "mnist", "--validation 0", _CELLS),
        Training("mnist-permuted", "mnist", "--view permuted --epochs 15 --batch-size 32", _PERMUTED),
        Training("ptb-small", "ptb", "--preset small"),
        Training("ptb-medium", "ptb", "--preset medium"),
        Training("ptb-large", "ptb", "--preset large"),
        *(Training(name, "ptb", f"--preset awd-small {options}".strip()) for name, options in _AWD.items()),
    )
}
