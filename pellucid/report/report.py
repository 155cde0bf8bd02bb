"""The report of a run: scores beside baselines, learning curves, error analysis, figures, settings (floor 9).

`write_report(path, data)` turns a `ReportData` into one HTML file that opens offline. It computes no scores, knows no network
and reads no files. `templates/report.html` is its frame.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ..evaluation.comparison import BaselineComparison, compare_with_baselines
from ..evaluation.evaluator import Figures, TestPredictions
from ..evaluation.formatting import (
    BASELINE_NAMES,
    fold_line,
    format_number,
    groups_text,
    interval_text,
    short_name,
    value_text,
)
from ..evaluation.importance import Importances
from ..evaluation.metrics import Metrics, primary_metric
from ..files import write_text
from ..runs.records import EpochRecord, FoldScores
from . import charts
from .error_analysis import Outcome, classification_sections, label_sections, regression_sections
from .html import box, cell, details, figure, page, part, section, shortened, table
from .importance_section import importance_section
from .network_figures import figure_sections

DASH = "–\N{WORD JOINER}"  # between the ends of an interval: no line break after it
METRIC_WORDS = {
    "accuracy": ("accuracy", "share of right answers; higher is better"),
    "log_loss": ("log loss", "punishes confident mistakes; lower is better"),
    "roc_auc": ("ROC area", "how well a class is ranked above the rest; 0.5 is chance, 1 perfect"),
    "f1_macro": ("F1, macro", "precision and recall together, every class counting alike; higher is better"),
    "f1": ("F1", "precision and recall together, of the class looked for; higher is better"),
    "f1_micro": ("F1", "precision and recall together, over all labels; higher is better"),
    "balanced_accuracy": (
        "balanced accuracy",
        "how much of each class is found, every class counting alike; higher is better",
    ),
    "pr_auc": (
        "precision-recall area",
        "how pure the rows ranked first are; the class's share is chance; higher is better",
    ),
    "exact": ("all labels right", "share of rows; higher is better"),
    "deviance": ("Poisson deviance", "errors weighed by how large the count is; lower is better"),
    "coverage": ("coverage", "share of test rows inside their interval"),
    "interval_width": ("interval width", "on average; lower is better where the coverage is right"),
    "rmse": ("rmse", "root of the mean squared error; large errors weigh more; lower is better"),
    "mae": ("mean absolute error", "how far off on average; lower is better"),
    "r2": ("r2", "share of the target's variance explained; 0 is the mean's, 1 perfect"),
    "nll_per_char": ("nats per character", "how surprised it is by each character, on average; lower is better"),
    "bits_per_char": (
        "bits per character",
        "the same in bits, as a file compressed with its help would need; lower is better",
    ),
    "perplexity": ("perplexity", "between how many equally likely characters it wavers; lower is better"),
    "frechet": ("Frechet distance", "of drawn from real images in a judge's features; lower is better"),
    "frechet_real": ("the same of real images", "that of training from test images: nothing can be much lower"),
    "conditional_accuracy": (
        "named right",
        "share of images that the judge takes for what they were to be; higher is better",
    ),
    "min_class_share": ("rarest class", "its share among the images drawn, as the judge names them"),
    "max_class_share": ("commonest class", "its share among the images drawn, as the judge names them"),
    "nearest_train_distance": (
        "nearest training image",
        "distance of drawn images to it, mean; below the test images' own means copying",
    ),
    "nearest_train_distance_real": (
        "the same of test images",
        "distance of real images never learned from to the nearest training image",
    ),
}


@dataclass(frozen=True)
class ReportData:
    """What `write_report` needs; everything about the test examples is in the target's own units or class indices.

    title: heading, e.g. "mlp on digits".      run: path or name as one would type it after `pellucid predict`.
    task: "classification", "regression" or "language".      predictions: of the test examples, where there are any.
    figures: what is shown of the network.      history: a record an epoch.
    best_epoch: the epoch whose weights were kept; None means that of the lowest validation loss.
    network: its lines.      notes: choices made on the way.      commands: (what it does, command) pairs; None derives them
    from `run`.
    """

    title: str
    run: str
    task: str
    metrics: Metrics
    predictions: TestPredictions | None = None
    baselines: Mapping[str, Metrics] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)
    history: Sequence[EpochRecord] = ()
    best_epoch: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    network: Sequence[str] = ()
    notes: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] | None = None
    created: str = ""
    folds: FoldScores | None = None
    importances: Importances | None = None

    @property
    def names(self) -> list[str]:
        """Class names, or their numbers where there are none; empty for a regression."""
        if self.task not in ("classification", "multilabel") or self.predictions is None:
            return []
        classes = self.predictions.classes
        return [str(c) for c in (classes if classes is not None else range(np.shape(self.predictions.output)[1]))]

    @property
    def target_name(self) -> str | None:
        return self.predictions.target_name if self.predictions else None

    def outcome(self, predictions: TestPredictions) -> Outcome:
        target = np.asarray(predictions.target, dtype=np.int64 if self.task == "classification" else np.float64)
        output = np.asarray(predictions.output, dtype=np.float64)
        if not self.names and output.ndim == 2:  # lower end, median, upper end
            output = output[:, 1]
        return Outcome(
            output, target, self.names, self.target_name, predictions.describe, predictions.files, predictions.said
        )


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write the page to `path`, whole or not at all. Raises DataError when the disk refuses."""
    path = Path(path)
    write_text(path, render_report(data))
    return path


def render_report(data: ReportData) -> str:
    """The page as one HTML document."""
    name, created = primary_metric(data.metrics), f" on {data.created}" if data.created else ""
    comparison = compare_with_baselines(data.metrics, data.baselines)
    sections = [] if data.importances is None else [importance_section(data.importances)]
    sections.append(_curves(data))
    if data.predictions is not None:
        analyse = {"classification": classification_sections, "multilabel": label_sections}.get(
            data.task, regression_sections
        )
        sections += analyse(data.outcome(data.predictions))
    sections += figure_sections(data.figures)
    sections += [_scores(data), _making(data), _onward(data)]
    return page(
        "report.html", title=f"{data.title} · {Path(data.run).name}", heading=data.title, run=data.run,
        score_label=_score_label(data, name), score=value_text(data.metrics, name), score_sentence=_fold_sentence(data) + _score_sentence(data),
        chart=_baseline_chart(data, comparison), comparison=comparison, facts=_facts(data), sections=sections,
        footer=f"Written by pellucid{created}. This page is one file, loads nothing and runs no script.",
    )  # fmt: skip


# ---------------------------------------------------------------- the result


def _score_label(data: ReportData, name: str) -> str:
    return {
        "accuracy": "test accuracy",
        "rmse": f"test error (rmse){' of ' + data.target_name if data.target_name else ''}",
        "nll_per_char": "nats per character",
        "frechet": "Frechet distance",
    }.get(name, f"test {METRIC_WORDS[name][0]}" if name in METRIC_WORDS else name)


def _fold_sentence(data: ReportData) -> str:
    """The mean over folds of a small table, which counts for more than its one test part."""
    if data.folds is None:
        return ""
    said = compare_with_baselines(data.folds.network, data.folds.baselines)
    return f"Over folds: {fold_line(data.folds, DASH)}. {said.sentence} The network kept, of one split: "


def _score_sentence(data: ReportData) -> str:
    m, name = data.metrics, primary_metric(data.metrics)
    span, groups = interval_text(m, name, DASH), groups_text(m, "")
    if name == "accuracy" and m.correct is not None:
        return f"Right on {m.correct:,} of {m.n:,} test examples{groups} it had never seen. 95% interval: {span}%."
    if name == "nll_per_char":
        return f"On {m.n:,} characters it had not learned from.{f' 95% interval: {span}.' if span else ''}"
    if name == "frechet":
        return f"Of {m.n:,} images it drew; real images are {value_text(m, 'frechet_real')} from one another."
    r2 = (
        f" It explains {100 * m['r2']:.0f}% of the variance (r2 {m['r2']:.2f})."
        if "r2" in m and m["r2"] is not None and m["r2"] > 0
        else ""
    )
    held = ""
    if m.get("coverage") is not None:
        low_high = interval_text(m, "coverage", DASH)
        held = f" Its intervals hold {value_text(m, 'coverage')} of them{f' ({low_high})' if low_high else ''}."
    return f"On {m.n:,} test rows{groups} it had never seen.{f' 95% interval: {span}.' if span else ''}{r2}{held}"


def _baseline_chart(data: ReportData, comparison: BaselineComparison) -> Markup:
    if not data.baselines:
        return Markup("")
    name = primary_metric(data.metrics)

    def estimate(label: str, style: str, m: Metrics) -> charts.Estimate:
        span = interval_text(m, name, DASH)
        return charts.Estimate(
            label, style, m[name], m.intervals.get(name), value_text(m, name) + (f" ({span})" if span else "")
        )

    rivals = sorted(data.baselines.items(), key=lambda item: item[0] != comparison.against)
    estimates = [estimate("this network", "ours", data.metrics)]
    estimates += [estimate(BASELINE_NAMES.get(key, key), "plain", m) for key, m in rivals]
    caption = f"Beside the baselines: {METRIC_WORDS[name][1].split('; ')[-1]}"
    spoken = "; ".join(f"{one.name} {one.shown}" for one in estimates)
    chart = charts.interval_chart(
        caption, spoken, estimates, charts.percent if name == "accuracy" else charts.show_short
    )
    return figure(caption, chart, style="")


def _facts(data: ReportData) -> list[tuple[str, str]]:
    facts = [("epochs", f"{len(data.history):,}")] if data.history else []
    if (best := _best_epoch(data)) is not None:
        facts.append(("weights kept from", f"epoch {best}" if best else "before the first step"))
    if data.history:
        facts.append(("training time", _duration(sum(record.seconds for record in data.history))))
    if data.predictions is not None:
        facts.append(("test examples", f"{data.metrics.n:,}"))
    if data.names:
        facts.append(("labels" if data.task == "multilabel" else "classes", f"{len(data.names):,}"))
    return facts


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _best_epoch(data: ReportData) -> int | None:
    if data.best_epoch is not None:
        return data.best_epoch
    losses = [
        (loss, record.epoch) for record in data.history if (loss := _value(record.validation, "loss")) is not None
    ]
    return min(losses)[1] if losses else None


def _value(values: Mapping[str, float | None], name: str) -> float | None:
    """A finite number, or None."""
    value = values.get(name)
    return value if value is not None and math.isfinite(value) else None


# ---------------------------------------------------------------- how it learned


def _curves(data: ReportData) -> Markup:
    if not data.history:
        return Markup("")
    score, best = primary_metric(data.metrics), _best_epoch(data) or None  # epoch 0 is not drawn
    figures = []
    same = all(record.validation.get("loss") == record.validation.get(score) for record in data.history)
    for name in ("loss", score)[: 1 if same else 2]:
        series = [
            charts.Series(split, style, _points(data.history, split, name))
            for split, style in (("validation", "ours"), ("train", "other"))
        ]
        spoken = "; ".join(
            f"{s.name} from {format_number(s.points[0][1])} to {format_number(s.points[-1][1])}"
            for s in series
            if s.points
        )
        y_format = charts.percent if name == "accuracy" else charts.show_short
        if chart := charts.line_chart(f"{short_name(name)} over epochs", spoken, series, best=best, y_format=y_format):
            figures.append(figure({"loss": "Loss", "accuracy": "Accuracy"}.get(name, short_name(name)), chart))
    lead = "Validation examples steer every choice (solid line); the test examples were read once, at the end."
    return section("How it learned", box("pair", *figures), _history_table(data.history, score), lead=lead)


def _points(history: Sequence[EpochRecord], split: str, name: str) -> list[tuple[float, float]]:
    values = [(float(record.epoch), _value(getattr(record, split), name)) for record in history]
    return [(epoch, value) for epoch, value in values if value is not None]


def _history_table(history: Sequence[EpochRecord], score: str) -> Markup:
    """The numbers behind the curves, a row an epoch."""
    columns: dict[str, Sequence[object]] = {"epoch": [record.epoch for record in history]}
    for name in dict.fromkeys(("loss", score)):
        for split in ("train", "validation"):
            columns[f"{split} {short_name(name)}"] = [getattr(record, split).get(name) for record in history]
    columns["learning rate"] = [record.learning_rate for record in history]
    columns["seconds"] = [record.seconds for record in history]
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    step = -(-len(history) // 200)
    rows = [[cell(values[i]) for values in shown.values()] for i in range(0, len(history), step)]
    caption = "Every epoch" if step == 1 else f"One epoch in {step}"
    return details("The numbers behind the curves", table(caption, list(shown), rows, numeric=range(len(shown))))


# ---------------------------------------------------------------- the rest


def _scores(data: ReportData) -> Markup:
    """Every score of the network and its baselines with the intervals."""
    measured = [("this network", data.metrics)] + [
        (BASELINE_NAMES.get(key, key), m) for key, m in data.baselines.items()
    ]
    rows = []
    for name, (label, gloss) in METRIC_WORDS.items():
        if name in data.metrics:
            cells = [part("scored", value_text(m, name), interval_text(m, name, DASH)) for _, m in measured]
            rows.append((label, *cells, part("gloss", gloss)))
    head = ("score", *(label for label, _ in measured), "")
    what = (
        "characters of the test part"
        if "nll_per_char" in data.metrics
        else "images drawn"
        if data.predictions is None
        else "test examples"
    )
    caption = f"On the {data.metrics.n:,} {what}, with 95% intervals where they can be told"
    return section("All scores", table(caption, head, rows, style="scores"))


def _making(data: ReportData) -> Markup:
    settings = [(name, _setting(value)) for name, value in data.settings.items()]
    if not (settings or data.network or data.notes):
        return Markup("")
    return section("How it was made", part("making", settings, "\n".join(data.network), data.notes))


def _setting(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (list, tuple)):
        return shortened(", ".join(str(item) for item in value), 120)
    return shortened(f"{value:g}" if isinstance(value, float) else value, 120)


def _onward(data: ReportData) -> Markup:
    run, predictions = shlex.quote(data.run), data.predictions
    if predictions is None:
        use = ("Let it make more", f"pellucid sample {run}")
    else:
        image = predictions.describe is not None and isinstance(predictions.describe(0), np.ndarray)
        source = "picture.png" if image else "rows.csv"
        if predictions.files:
            source = f"new{Path(predictions.files[0]).suffix}"
        use = ("Use it on new data", f"pellucid predict {run} {source}")
    commands = data.commands
    if commands is None:
        commands = [
            use,
            ("Measure it again", f"pellucid evaluate {run}"),
            ("See the network layer by layer", f"pellucid summary {run}"),
            ("Train on from its last epoch", f"pellucid train --resume {run} --epochs {len(data.history) * 2 or 20}"),
        ]
    return section("How to go on", part("commands", commands))
