"""Language modelling: PTB, the user's own text, the grammar."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from lstm_numba.data import grammar, ptb, text
from lstm_numba.data.batching import ContiguousBatches, EvaluationRows, evaluation_rows
from lstm_numba.data.corpus import EOS, Corpus, Ids
from lstm_numba.errors import CheckpointError, UserError
from lstm_numba.models.base import State, TokenBatch
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.models.sampling import generate
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.ranks.shares import Part
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.run import Run
from lstm_numba.training.run_consistency import vocabulary_digest
from lstm_numba.training.task import Progress, Task

#: Batch size of an evaluation, and tokens in one of its windows.
_ROWS = 20
_WINDOW = 1000
#: Tokens read before each row but not counted: they set the row's initial state, so that the result is that
#: of reading the text as one sequence.
_CONTEXT = 100


class TextTask(Task):
    """A `LanguageModel` and a text.

    Parameters
    ----------
    config, data_dir, device
        See `lstm_numba.training.tasks.build_task`.
    ranks : Ranks
        See `Task`.
    vocabulary : dict, optional
        Level and tokens, as the run folder keeps them; with it, the text is loaded only when needed.
    """

    kind = "language-model"
    unit = "tokens"
    metric = "perplexity"
    carries_state = True
    splits = ("train", "valid", "test")

    def __init__(
        self,
        config: Mapping[str, Any],
        data_dir: str | os.PathLike[str] | None = None,
        device: str | None = None,
        vocabulary: Mapping[str, Any] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(config, data_dir, device, ranks)
        self._loaded: Corpus | None = None
        self._known: Corpus | None = None
        if vocabulary is not None:
            self._known = Corpus(config["dataset"], vocabulary["level"], tuple(vocabulary["tokens"]), {})
        own = ("embedding", "tie", "embedding_dropout", "input_dropout")
        self.model: LanguageModel = LanguageModel(len(self.corpus.vocabulary), **self.network(*own))

    @property
    def corpus(self) -> Corpus:
        """The text; without its splits while only its vocabulary is needed."""
        if self._loaded is not None or self._known is None:
            return self._text()
        return self._known

    def _text(self) -> Corpus:
        if self._loaded is None:
            corpus = self.ranks.once_a_machine(self._read)
            known = self._known
            if known is not None and (known.level, known.vocabulary) != (corpus.level, corpus.vocabulary):
                raise CheckpointError(
                    f"{corpus.source or corpus.name}: has another vocabulary than the one of the run"
                )
            self._loaded = corpus
        return self._loaded

    def _read(self) -> Corpus:
        data = self.config["data"]
        if self.config["dataset"] == "ptb":
            return ptb.load(self.data_dir)
        if self.config["dataset"] == "text":
            return text.load(data["file"], level=data["level"])
        options = {name: data[name] for name in ("seed", "tokens") if data.get(name) is not None}
        return grammar.load(**options)

    @property
    def chance(self) -> float:
        """See `Task.chance`."""
        return math.log(len(self.corpus.vocabulary))

    @property
    def floor(self) -> float | None:
        """Perplexity of the true distribution on the test split, for a text from a known grammar."""
        if self.config["dataset"] != "grammar":
            return None
        corpus = self._text()
        entropy = (corpus.split_entropy or {}).get("test", corpus.entropy_rate)
        return None if entropy is None else math.exp(entropy)

    def load_data(self) -> None:
        """See `Task.load_data`."""
        self._text()
        for split in self.splits[1:]:
            self._rows(split)
        len(self._windows)  # fails for a text too short for one window

    @cached_property
    def _windows(self) -> ContiguousBatches:
        return ContiguousBatches(self._text().splits["train"], self.config["batch_size"], self.config["bptt"])

    @property
    def sequence_steps(self) -> int:
        """See `Task.sequence_steps`."""
        steps: int = self.config["bptt"]
        return steps

    @property
    def steps_per_epoch(self) -> int:
        """See `Task.steps_per_epoch`."""
        return len(self._windows)

    def batch(self, epoch: int, step: int) -> TokenBatch:
        """See `Task.batch`; the order is the same in every epoch."""
        inputs, targets = self._windows.window(step)
        return TokenBatch(inputs, targets)

    def split_ids(self, split: str) -> Ids:
        """The tokens of a split, in the order of the text."""
        self._check_split(split)
        return self._text().splits[split]

    def _rows(self, split: str) -> EvaluationRows:
        ids = self._text().splits[split]
        rows = min(_ROWS, max(1, len(ids) // (2 * _CONTEXT)))
        return evaluation_rows(ids, rows, max(1, _WINDOW // rows))

    def evaluate(self, split: str, progress: Progress | None = None) -> Evaluation:
        """See `Task.evaluate`: every token but the first counts once."""
        self._check_split(split)
        rows = self._rows(split)
        windows = list(rows)
        part = self.ranks.part(rows.batch_size)
        state = self._context_state(split, sum(window.lengths for window in windows), part)
        sums, done = np.zeros(3), 0
        for window in windows:
            if part.size:
                arrays = (np.ascontiguousarray(a[:, part.rows]) for a in (window.x, window.y, window.weights))
                result = self.model.evaluate(TokenBatch(*arrays), state)
                state = result.state
                sums += result.loss_sum, result.correct, result.count
            done += int(window.lengths.sum())
            if progress is not None:
                progress(done, rows.tokens)
        loss, correct, count = self.ranks.sum(sums).tolist()
        return self.summary(split, loss, round(correct), count)

    def _context_state(self, split: str, lengths: Any, part: Part) -> State:
        """Initial state of each row of a part, from the tokens before it; zero for the first row."""
        starts = np.cumsum(lengths)[:-1]
        size = min(_CONTEXT, int(lengths[0]))
        if not len(starts) or not size or not part.size:
            return None
        ids = self._text().splits[split]
        context = np.zeros((size, len(lengths)), np.int64)
        for row, start in enumerate(starts, start=1):
            context[:, row] = ids[start - size : start]
        _, state = self.model.next_logits(np.ascontiguousarray(context[:, part.rows]))
        arrays = [
            np.array(self.model.engine.download(array))
            for array in (state if isinstance(state, tuple) else (state,))
        ]
        for array in arrays if part.first == 0 else ():
            array[:, 0] = 0
        return tuple(arrays) if isinstance(state, tuple) else arrays[0]

    def fingerprint(self) -> str:
        """See `Task.fingerprint`."""
        return hashlib.sha256(np.ascontiguousarray(self._text().splits["train"]).data).hexdigest()

    def vocabulary_digest(self) -> str:
        """See `Task.vocabulary_digest`."""
        return vocabulary_digest(self.corpus.level, self.corpus.vocabulary)

    def keep_with(self, run: Run) -> None:
        """See `Task.keep_with`: the vocabulary."""
        corpus = self.corpus
        run.keep_vocabulary(corpus.level, corpus.vocabulary)

    def sample(
        self,
        prompt: str,
        length: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Continue a text.

        Parameters
        ----------
        prompt : str
            Text to begin with; if empty, the sample starts like a line.
        length : int
            Tokens to draw.
        temperature, top_k
            See `lstm_numba.models.sampling.draw_token`.
        seed : int, optional
            Equal seeds give equal texts.

        Yields
        ------
        str
            The text that follows the prompt, piece by piece.

        Raises
        ------
        UserError
            The prompt has a word or character outside the vocabulary, or the model's numbers overflow.
        """
        corpus = self.corpus
        ids = corpus.encode(prompt)
        line_end = EOS if corpus.level == "word" else "\n"
        start = [corpus.index.get(line_end, 0)]
        tokens = generate(
            self.model,
            ids.tolist() or start,
            length,
            temperature=temperature,
            top_k=top_k,
            rng=np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))),
        )
        return self._pieces(tokens, at_line_start=not len(ids) or corpus.vocabulary[int(ids[-1])] == line_end)

    def _pieces(self, tokens: Iterator[int], at_line_start: bool) -> Iterator[str]:
        """Text of the tokens: words get the spaces between them."""
        corpus = self.corpus
        for number in self._drawn(tokens):
            token = corpus.vocabulary[number]
            if corpus.level == "char":
                yield token
            elif token == EOS:
                yield "\n"
            else:
                yield token if at_line_start else f" {token}"
            at_line_start = token == EOS

    def _drawn(self, tokens: Iterator[int]) -> Iterator[int]:
        try:
            yield from tokens
        except ValueError as error:  # a score is no number
            raise UserError(f"{error}: the model's weights are too large") from None
