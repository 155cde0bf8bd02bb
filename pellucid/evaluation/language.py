"""Evaluation of language models: negative log-likelihood per character, compared with n-gram models (floor 7).

A token may be a character or a byte pair. The loss is given per character in both cases, so that models with different
tokens can be compared. Every character of the validation or test split is scored once, except the first; see
`WindowDataset`.
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

SAMPLE_TOKENS = 300  # length of the text that is generated after each epoch
SAMPLED_EPOCHS = 6  # the most epochs whose generated text the report shows
PASSAGE_CHARACTERS = 800  # length of the test text that the report shows with the loss of each token
ATTENTION_TOKENS = 32  # length of the test text whose attention weights the report shows


class LanguageEvaluator(Evaluator):
    """Evaluator of language models."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.preprocessor = cast(TextPreprocessor, problem.preprocessor)
        self.lengths = self.preprocessor.tokenizer.lengths()  # characters of each token
        windows = np.arange(min(len(self.validation_set), 1000))
        *_, targets = self.validation_set.gather(windows)
        scored = targets.array[targets.array != IGNORE_INDEX]
        self.characters_per_token = self.lengths[scored].sum() / len(scored)  # an estimate, from the first windows

    def inverse_transform(self, values: dict[str, float]) -> dict[str, float]:
        """Add "nll_per_char", in nats per character. "loss" is in nats per token."""
        return {**values, "nll_per_char": values["loss"] / self.characters_per_token}

    def epoch_artifacts(self, epoch: int) -> EpochArtifacts:
        return EpochArtifacts(sample=self.sample(SAMPLE_TOKENS))

    def sample(self, length: int) -> str:
        """Generate `length` tokens after a newline. The random numbers are the same in every epoch."""
        prompt = self.preprocessor.tokenizer.encode("\n")
        tokens = self.network.generate(prompt, length, generator=Generator(self.settings.seed))
        return str(self.preprocessor.text(tokens))

    def test(self) -> EvaluationResult:
        problem = self.problem
        losses, characters = per_window(self.step, problem.test.eval_dataset(self.network), self.lengths)
        baselines = text_baselines(self.preprocessor, problem.train, problem.test, losses, characters, problem.notes)
        return EvaluationResult(text_metrics(losses, characters), baselines)

    def figures(self) -> Figures:
        """The text generated after some epochs, a test text with the loss of each token, and the attention over its start."""
        dataset = self.problem.test.eval_dataset(self.network)
        tokens = dataset.gather(np.zeros(1, np.int64))[0][:, :ATTENTION_TOKENS]
        text = self.preprocessor.text(tokens.array[0])
        return Figures(text_samples=self._samples(), passage=self._passage(dataset),
                       attention=attention_figure(self.network, tokens, list(text)))  # fmt: skip

    def _samples(self) -> list[TextSample]:
        """The text generated after some of the epochs, evenly spaced from the first to the last."""
        epochs = [record for record in self.run.history() if record.sample is not None]
        chosen = sorted({round(i) for i in np.linspace(0, len(epochs) - 1, min(SAMPLED_EPOCHS, len(epochs)))})
        # A record without "nll_per_char" has the loss per token only.
        losses = [epochs[i].validation.get("nll_per_char") or epochs[i].validation["loss"] or 0.0 for i in chosen]
        return [
            TextSample(epochs[i].epoch, loss, str(epochs[i].sample)) for i, loss in zip(chosen, losses, strict=True)
        ]

    def _passage(self, dataset: GatheredDataset) -> list[TokenLoss]:
        """The start of the test text, token by token, with the loss of each."""
        batch = dataset.gather(np.arange(min(len(dataset), 24)))
        losses, targets = self.network.token_losses(*batch).array, batch[-1].array
        scored = targets != IGNORE_INDEX
        passage: list[TokenLoss] = []
        characters = 0
        for loss, text in zip(losses[scored], self.preprocessor.spelled(targets[scored]), strict=True):
            passage.append(TokenLoss(text, float(loss)))
            characters += len(text)
            if characters > PASSAGE_CHARACTERS:
                break
        return passage


def per_window(step: EvaluationStep, dataset: GatheredDataset, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each window (N,): the sum of its losses in nats, and the number of characters that this sum is over."""
    losses = step(dataset)["loss"]
    characters = []
    for start in range(0, len(dataset), 1024):
        targets = dataset.gather(np.arange(start, min(start + 1024, len(dataset))))[-1].array
        # IGNORE_INDEX is negative; `clip` makes it an index that exists.
        characters.append(np.where(targets == IGNORE_INDEX, 0, lengths[targets.clip(0)]).sum(1))
    return losses, np.concatenate(characters)
