"""Evaluation of language models: negative log-likelihood per character, beside n-grams (floor 7).

The loss is given per character whatever the tokens are, so that texts in characters and in byte pairs compare. Every
character of the part but the first is scored once; see `WindowDataset`.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from ..data.loader import IGNORE_INDEX, GatheredDataset
from ..data.problem import DataModule
from ..data.text.tokenize import TextPreprocessor
from ..inspect.attention import attention_figure
from ..models.base import Model
from ..random import Generator
from ..runs.run import Run
from ..runs.settings import Settings
from .compiled import EvaluationStep
from .evaluator import EpochArtifacts, EvaluationResult, Evaluator, Figures, TextSample, TokenLoss
from .kneser_ney import text_baselines
from .metrics import text_metrics

SAMPLE = 300  # tokens written each epoch
SHOWN = 6  # epochs whose sample is shown
PASSAGE = 800  # characters of the test part shown with their losses
ATTENDED = 32  # tokens of the test part whose attention is shown


class LanguageEvaluator(Evaluator):
    """Of a language model."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.preprocessor = cast(TextPreprocessor, problem.preprocessor)
        self.lengths = self.preprocessor.tokenizer.lengths()  # characters of each token
        targets = self.validation_set.gather(np.arange(min(len(self.validation_set), 1000)))[-1].array
        scored = targets[targets != IGNORE_INDEX]
        self.characters = self.lengths[scored].sum() / len(scored)  # of a token, about

    def inverse_transform(self, values: dict[str, float]) -> dict[str, float]:
        """Add the loss, which is per token, as nats per character."""
        return {**values, "nll_per_char": values["loss"] / self.characters}

    def epoch_artifacts(self, epoch: int) -> EpochArtifacts:
        return EpochArtifacts(sample=self.sample(SAMPLE))

    def sample(self, length: int) -> str:
        """`length` tokens written after a newline, from the same seed every time."""
        prompt = self.preprocessor.tokenizer.encode("\n")
        tokens = self.network.generate(prompt, length, generator=Generator(self.settings.seed))
        return str(self.preprocessor.text(tokens))

    def test(self) -> EvaluationResult:
        problem = self.problem
        losses, characters = per_window(self.step, problem.test.eval_dataset(self.network), self.lengths)
        others = text_baselines(self.preprocessor, problem.train, problem.test, losses, characters, problem.notes)
        return EvaluationResult(text_metrics(losses, characters), others)

    def figures(self) -> Figures:
        """Samples of some epochs, a passage of the test part with the loss of each token, and attention over its start."""
        dataset = self.problem.test.eval_dataset(self.network)
        tokens = dataset.gather(np.zeros(1, np.int64))[0][:, :ATTENDED]
        spelled = self.preprocessor.text(tokens.array[0])
        return Figures(text_samples=self._samples(), passage=self._passage(dataset),
                       attention=attention_figure(self.network, tokens, list(spelled)))  # fmt: skip

    def _samples(self) -> list[TextSample]:
        """What was written after some of the epochs, from the first to the last."""
        epochs = [record for record in self.run.history() if record.sample is not None]
        chosen = sorted({round(i) for i in np.linspace(0, len(epochs) - 1, min(SHOWN, len(epochs)))})
        losses = [epochs[i].validation.get("nll_per_char") or epochs[i].validation["loss"] or 0.0 for i in chosen]
        return [
            TextSample(epochs[i].epoch, loss, str(epochs[i].sample)) for i, loss in zip(chosen, losses, strict=True)
        ]

    def _passage(self, dataset: GatheredDataset) -> list[TokenLoss]:
        batch = dataset.gather(np.arange(min(len(dataset), 24)))
        losses, targets = self.network.token_losses(*batch).array, batch[-1].array
        scored, shown, passage = targets != IGNORE_INDEX, 0, []
        for loss, letters in zip(losses[scored], self.preprocessor.spelled(targets[scored]), strict=True):
            shown += len(letters)
            passage.append(TokenLoss(letters, float(loss)))
            if shown > PASSAGE:
                break
        return passage


def per_window(step: EvaluationStep, dataset: GatheredDataset, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each window (N,) the sum of its losses in nats, and of how many characters."""
    losses = step(dataset)["loss"]
    characters = []
    for start in range(0, len(dataset), 1024):
        targets = dataset.gather(np.arange(start, min(start + 1024, len(dataset))))[-1].array
        characters.append(np.where(targets == IGNORE_INDEX, 0, lengths[targets.clip(0)]).sum(1))
    return losses, np.concatenate(characters)
