"""Text scoring: the negative log-likelihood that a saved language model gives to other texts (floor 8).

Everything goes through the run's own tokenizer; characters that training never saw count as one unknown token. Texts are
read the way `LanguageEvaluator` reads the run's test part, so that scores compare.

Shapes: L tokens scored.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from ..data.kinds import kind_named
from ..data.load import open_source
from ..data.loader import IGNORE_INDEX, GatheredDataset
from ..data.problem import Examples, TokenSequence
from ..data.text.kind import TextKind
from ..data.text.read import encode_split, lines_of
from ..data.text.tokenize import TextPreprocessor
from ..errors import DataError, NonFiniteError
from ..evaluation.compiled import CompiledFunction, EvaluationStep
from ..evaluation.language import per_window
from ..evaluation.metrics import Metrics, text_metrics
from ..models.base import map_batches
from ..models.heads.language import LanguageModel
from ..runs.run import Run


class TextScorer:
    """A run's network and tokenizer, loaded once. notes: how texts were read, where that was not plain."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.kind = cast(TextKind, kind_named(run.config.kind))
        self.preprocessor = cast(TextPreprocessor, run.preprocessor())
        self.lengths = self.preprocessor.tokenizer.lengths()  # characters of each token
        self.network = cast(LanguageModel, run.network())
        self.eager = run.config.settings.eager
        self.notes: list[str] = []

    def text(self, data: str, read: str | None = None) -> str:
        """The text of a file, or the test part of one known by name; without blank lines where lines were learned.

        Raises DataError where nothing of it can be scored.
        """
        own = self.run.config.source
        source = open_source(
            data, self.kind, self.run.config.settings.seed, read or cast("str | None", own.get("read"))
        )
        if own.get("spec") == data:  # split as it was for this run, where it is the same text
            source.options = {name: value for name, value in own.items() if name not in ("spec", "path", "seed")}
        text, notes = self.kind.read_to_score(source)
        self.notes += notes
        if self.preprocessor.lines:
            text = lines_of(self.preprocessor, data, text, self.network.max_length)
        if len(self.preprocessor.tokenizer.encode(text)) < 2:
            raise DataError(f"{data}: {len(text)} characters; expected 2 tokens at least, since what comes first is not scored; "
                            "give more text")  # fmt: skip
        return text

    def score(self, text: str) -> Metrics:
        """The scores of `text`, as the test part has them."""
        dataset = self._judged(text)
        return text_metrics(*per_window(EvaluationStep(self.network, self.eager), dataset, self.lengths))

    def token_nll(self, text: str) -> list[tuple[int, str, float]]:
        """(position, token as text, nats) of each token scored, in order; positions are counted in characters from 1."""
        dataset = self._judged(text)
        losses = self.network.token_losses
        gather = lambda rows: dataset.gather(np.arange(rows.start, rows.stop))
        count, most = len(dataset), self.network.eval_batch_size
        targets = map_batches(count, most, lambda rows: gather(rows)[-1].array)
        run = CompiledFunction(losses, self.eager)
        nats = map_batches(count, most, lambda rows: run(*gather(rows)).array)[targets != IGNORE_INDEX]  # (L,)
        if not np.isfinite(nats).all():
            raise NonFiniteError(f"{self.run.name}: its network gives NaN or infinity for {(~np.isfinite(nats)).sum():,} of {len(nats):,} tokens; "
                                 "expected finite numbers; its training blew up: train again with a lower --lr")  # fmt: skip
        letters = self.preprocessor.spelled(targets[targets != IGNORE_INDEX], text)
        places = len(text) + 1 - np.cumsum([len(part) for part in reversed(letters)])[::-1]
        return list(zip(places.tolist(), letters, nats.tolist(), strict=True))

    def _judged(self, text: str) -> GatheredDataset:
        part: TokenSequence | Examples = encode_split(self.preprocessor, text)
        return part.eval_dataset(self.network)
