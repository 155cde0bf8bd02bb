"""How a network that writes is judged: nats per character, beside n-grams, and a sample of its writing every epoch (floor 6).

The loss is told per character whatever the tokens are, so that texts in characters and in byte pairs compare. Every
character of the part is scored once; see `WindowDataset`.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..data.loader import IGNORE_INDEX
from ..data.problem import DataModule
from ..data.text.tokenize import TextPreprocessor
from ..models.base import Model
from ..random import Generator
from ..report.html import Markup, section, table, text
from ..report.network_figures import TOKENS, attention
from ..runs.run import Run
from ..runs.settings import Settings
from .compiled import EvaluationStep
from .evaluator import EvaluationResult, Evaluator
from .kneser_ney import text_baselines
from .metrics import text_metrics

SAMPLE = 300  # tokens written each epoch
SHOWN = 6  # epochs whose writing is shown
PASSAGE = 800  # characters of the test part shown with its surprises


class LanguageEvaluator(Evaluator):
    """Of a network that writes."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.known = cast(TextPreprocessor, problem.preprocessor)
        self.lengths = self.known.tokenizer.lengths()  # characters of each token
        targets = self.judged.gather(np.arange(min(len(self.judged), 1000)))[-1].array
        scored = targets[targets != IGNORE_INDEX]
        self.characters = self.lengths[scored].sum() / len(scored)  # of a token, about

    def in_units(self, values: dict[str, float]) -> dict[str, float]:
        """With the loss, which is per token, in nats per character."""
        return {**values, "nats": values["loss"] / self.characters}

    def keep(self, epoch: int) -> dict[str, Any]:
        return {"sample": self.sample(SAMPLE)}

    def sample(self, length: int) -> str:
        """Something it writes, the same chance every time; begins after a newline."""
        prompt = self.known.tokenizer.encode("\n")
        return str(self.known.text(self.network.write(prompt, length, generator=Generator(self.settings.seed))))

    def test(self) -> EvaluationResult:
        problem = self.problem
        dataset = problem.test.eval_dataset(self.network)
        losses, characters = per_window(self.judge, dataset, self.lengths)
        others = text_baselines(self.known, problem.train, problem.test, losses, characters, problem.notes)
        tokens = dataset.gather(np.zeros(1, np.int64))[0][:, :TOKENS]
        letters = self.known.text(tokens.array[0])
        sections = [self._samples(), self._surprises(dataset), attention(self.network, tokens, letters)]
        return EvaluationResult(
            text_metrics(losses, characters), others, {"sections": [part for part in sections if part]}
        )

    def _samples(self) -> Markup:
        """What it wrote after some of the epochs, from the first to the last."""
        lines = [line for line in self.run.history() if "sample" in line]
        chosen = sorted({round(i) for i in np.linspace(0, len(lines) - 1, min(SHOWN, len(lines)))})
        rows = [
            (lines[i]["epoch"], f"{lines[i].get('validation_nats', lines[i]['validation_loss']):.3f}",
             Markup(f'<pre class="wrap">{text(lines[i]["sample"])}</pre>'))
            for i in chosen
        ]  # fmt: skip
        listing = table("Written from nothing, by the weights of that epoch", ("epoch", "nats", "it wrote"), rows)
        return section("What it writes", listing, lead="Drawn character by character from its own probabilities.")

    def _surprises(self, dataset: Any) -> Markup:
        """A passage of the test part, each token tinted by how little the network expected it."""
        batch = dataset.gather(np.arange(min(len(dataset), 24)))
        losses, targets = self.network.losses(*batch).array, batch[-1].array
        scored, shown, spans = targets != IGNORE_INDEX, 0, []
        for loss, letters in zip(losses[scored], self.known.spelled(targets[scored]), strict=True):
            shown += len(letters)
            spans.append(
                f'<span style="--s:{min(float(loss) / 6, 1):.2f}" title="{loss:.2f} nats">{text(letters)}</span>'
            )
            if shown > PASSAGE:
                break
        lead = "The darker a character, the less it was expected after all that stands before it."
        return section("Where it is surprised", Markup(f'<pre class="wrap surprise">{"".join(spans)}</pre>'), lead=lead)


def per_window(judge: EvaluationStep, dataset: Any, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each window (N,) the sum of its losses in nats, and of how many characters."""
    losses = judge(dataset)["loss"]
    characters = []
    for start in range(0, len(dataset), 1024):
        targets = dataset.gather(np.arange(start, min(start + 1024, len(dataset))))[-1].array
        characters.append(np.where(targets == IGNORE_INDEX, 0, lengths[targets.clip(0)]).sum(1))
    return losses, np.concatenate(characters)
