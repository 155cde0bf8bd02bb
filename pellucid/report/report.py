"""The page that a run leaves behind: how good the network is, beside what, how it got there and where it is wrong.

`write_report(path, data)` turns a `ReportData` into one HTML file that opens offline. Where the network is wrong is told
by `mistakes.py`; scores come from `metrics.py`, looks from `page.py` and `charts.py`. It knows no network and reads no
files.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.metrics import (
    BASELINE_NAMES,
    BaselineComparison,
    Metrics,
    interval_text,
    primary_metric,
    show,
    value_text,
    verdict,
)
from ..files import write_text
from . import charts
from .error_analysis import Outcome, classification_sections, regression_sections
from .html import Markup, cell, details, figure, joined, page, section, table, text

DASH = "–\N{WORD JOINER}"  # between the ends of an interval: no line break after it
METRIC_WORDS = {
    "accuracy": ("accuracy", "share of right answers; higher is better"),
    "log_loss": ("log loss", "punishes confident mistakes; lower is better"),
    "roc_auc": ("ROC area", "how well a class is ranked above the rest; 0.5 is chance, 1 perfect"),
    "f1_macro": ("F1, macro", "precision and recall together, every class counting alike; higher is better"),
    "rmse": ("rmse", "root of the mean squared error; large errors weigh more; lower is better"),
    "mae": ("mean absolute error", "how far off on average; lower is better"),
    "r2": ("r2", "share of the target's variance explained; 0 is the mean's, 1 perfect"),
    "nats": ("nats per character", "how surprised it is by each character, on average; lower is better"),
    "bits": ("bits per character", "the same in bits, as a file compressed with its help would need; lower is better"),
    "perplexity": ("perplexity", "between how many equally likely characters it wavers; lower is better"),
    "frechet": ("Frechet distance", "of drawn from real images in a judge's features; lower is better"),
    "floor": ("the same of real images", "that of training from test images: nothing can be much lower"),
    "named_right": ("named right", "share of images that the judge takes for what they were to be; higher is better"),
    "smallest_class": ("rarest class", "its share among the images drawn, as the judge names them"),
    "largest_class": ("commonest class", "its share among the images drawn, as the judge names them"),
    "nearest": (
        "nearest training image",
        "distance of drawn images to it, mean; below the test images' own means copying",
    ),
    "nearest_test": (
        "the same of test images",
        "distance of real images never learned from to the nearest training image",
    ),
}


@dataclass
class ReportData:
    """What `write_report` needs; everything about the test examples is in the target's own units or class indices.

    title: heading, e.g. "mlp on digits". run: path or name as one would type it after `pellucid predict`.
    task: "classification" (output (N, K) probabilities, target (N,) int) or "regression" (both (N,) float).
    history: a dict an epoch: epoch, train_loss, validation_loss, train_score, validation_score, learning_rate, seconds;
    any but `epoch` may be missing or None. score_name: what the history's scores are; "" means accuracy or rmse.
    best_epoch: the epoch whose weights were kept; None means that of the lowest validation loss.
    sections: markup that shows what the network writes or draws, after what `output` and `target` tell, if they are there.
    describe(i): test example i as a person knows it, a row (column -> value) or a uint8 image (H, W); None without.
    files: the name of each test example's file, where it is one.
    commands: (what it does, command) pairs; None derives them from `run`.
    """

    title: str
    run: str
    task: str
    metrics: Metrics
    output: np.ndarray | None = None
    target: np.ndarray | None = None
    classes: Sequence[str] | None = None
    baselines: Mapping[str, Metrics] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    score_name: str = ""
    best_epoch: int | None = None
    target_name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    network: Sequence[str] = ()
    notes: Sequence[str] = ()
    describe: Callable[[int], Any] | None = None
    files: Sequence[str] = ()
    sections: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] | None = None
    created: str = ""

    @property
    def names(self) -> list[str]:
        """Class names, or their numbers where there are none; empty for a regression."""
        if self.task != "classification" or self.output is None:
            return []
        return [str(c) for c in (self.classes if self.classes is not None else range(np.shape(self.output)[1]))]

    @property
    def outcome(self) -> Outcome:
        assert self.output is not None and self.target is not None
        target = np.asarray(self.target, dtype=np.int64 if self.task == "classification" else np.float64)
        output = np.asarray(self.output, dtype=np.float64)
        return Outcome(output, target, self.names, self.target_name, self.describe, self.files)


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write the page to `path`, whole or not at all. Raises DataError when the disk refuses."""
    path = Path(path)
    write_text(path, render_report(data))
    return path


def render_report(data: ReportData) -> str:
    """The page as one HTML document."""
    parts = [_header(data), _hero(data), _curves(data)]
    if data.output is not None:
        wrong = classification_sections if data.task == "classification" else regression_sections
        parts.append(wrong(data.outcome))
    parts += data.sections
    parts += [_scores(data), _making(data), _onward(data)]
    created = f" on {text(data.created)}" if data.created else ""
    parts.append(
        f"<footer>Written by pellucid{created}. This page is one file, loads nothing and runs no script.</footer>"
    )
    return page(f"{data.title} · {Path(data.run).name}", "".join(parts))


# ---------------------------------------------------------------- the result


def _header(data: ReportData) -> str:
    return f'<header><p class="eyebrow">pellucid · {text(data.run)}</p><h1>{text(data.title)}</h1></header>'


def _hero(data: ReportData) -> str:
    """The score, its interval and the baselines, then in words whether the network was worth it."""
    judged = verdict(data.metrics, data.baselines)
    name = primary_metric(data.metrics)
    label = {
        "accuracy": "test accuracy",
        "rmse": f"test error (rmse){' of ' + data.target_name if data.target_name else ''}",
        "nats": "nats per character",
        "frechet": "Frechet distance",
    }[name]
    left = (
        f'<div><p class="score"><small>{text(label)}</small>{text(value_text(data.metrics, name))}</p>'
        f"<p>{text(_score_sentence(data))}</p></div>"
    )
    chart = _baseline_chart(data, judged)
    words = f'<p class="verdict {judged.level}"><b>{text(judged.claim)}</b>{text(judged.evidence)}</p>'
    return f'<div class="card"><div class="hero">{left}<div>{chart}</div>{words}</div></div>{_facts(data)}'


def _score_sentence(data: ReportData) -> str:
    m, name = data.metrics, primary_metric(data.metrics)
    span = interval_text(m, name, DASH)
    if name == "accuracy":
        return f"Right on {m['correct']:,} of {m['n']:,} test examples it had never seen. 95% interval: {span}%."
    if name == "nats":
        return f"On {m['n']:,} characters it had not learned from.{f' 95% interval: {span}.' if span else ''}"
    if name == "frechet":
        return f"Of {m['n']:,} images it drew; real images are {value_text(m, 'floor')} from one another."
    r2 = (
        f" It explains {100 * m['r2']:.0f}% of the variance (r2 {m['r2']:.2f})."
        if m.get("r2") is not None and m["r2"] > 0
        else ""
    )
    return f"On {m['n']:,} test rows it had never seen.{f' 95% interval: {span}.' if span else ''}{r2}"


def _baseline_chart(data: ReportData, judged: BaselineComparison) -> Markup:
    if not data.baselines:
        return Markup("")
    name = primary_metric(data.metrics)

    def estimate(label: str, style: str, m: Metrics) -> charts.Estimate:
        pair, span = m["intervals"].get(name), interval_text(m, name, DASH)
        return charts.Estimate(
            label, style, m[name], tuple(pair) if pair else None, value_text(m, name) + (f" ({span})" if span else "")
        )

    rivals = sorted(data.baselines.items(), key=lambda item: item[0] != judged.against)
    estimates = [estimate("this network", "ours", data.metrics)]
    estimates += [estimate(BASELINE_NAMES.get(key, key), "plain", m) for key, m in rivals]
    caption = f"Beside the baselines: {METRIC_WORDS[name][1].split('; ')[-1]}"
    spoken = "; ".join(f"{one.name} {one.shown}" for one in estimates)
    chart = charts.interval_chart(
        caption, spoken, estimates, charts.percent if name == "accuracy" else charts.show_short
    )
    return Markup(f"<figure><figcaption>{text(caption)}</figcaption>{chart}</figure>")


def _facts(data: ReportData) -> str:
    facts = [("epochs", f"{len(data.history):,}")] if data.history else []
    if (best := _best_epoch(data)) is not None:
        facts.append(("weights kept from", f"epoch {best}"))
    seconds = [row["seconds"] for row in data.history if _number(row.get("seconds")) is not None]
    if seconds:
        facts.append(("training time", _duration(sum(seconds))))
    if data.output is not None:
        facts.append(("test examples", f"{data.metrics['n']:,}"))
    if data.task == "classification":
        facts.append(("classes", f"{len(data.names):,}"))
    return f'<dl class="facts">{"".join(f"<div><dt>{text(a)}</dt><dd>{text(b)}</dd></div>" for a, b in facts)}</dl>'


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _number(value: Any) -> float | None:
    """A finite float, or None for whatever else stands in a history."""
    return float(value) if isinstance(value, (int, float, np.number)) and math.isfinite(value) else None


def _best_epoch(data: ReportData) -> int | None:
    if data.best_epoch is not None:
        return data.best_epoch
    losses = [(loss, row["epoch"]) for row in data.history if (loss := _number(row.get("validation_loss"))) is not None]
    return min(losses)[1] if losses else None


# ---------------------------------------------------------------- how it learned


def _curves(data: ReportData) -> str:
    if not data.history:
        return ""
    score = data.score_name or primary_metric(data.metrics)
    best = _best_epoch(data)
    figures = []
    same = all(row.get("validation_loss") == row.get("validation_score") for row in data.history)
    for kind, name in (("loss", "loss"), ("score", score))[: 1 if same else 2]:
        series = [
            charts.Series(part, style, _points(data.history, f"{part}_{kind}"))
            for part, style in (("validation", "ours"), ("train", "other"))
        ]
        spoken = "; ".join(
            f"{s.name} from {show(s.points[0][1])} to {show(s.points[-1][1])}" for s in series if s.points
        )
        y_format = charts.percent if name == "accuracy" else charts.show_short
        if chart := charts.line_chart(f"{name} over epochs", spoken, series, best=best, y_format=y_format):
            figures.append(figure({"loss": "Loss", "accuracy": "Accuracy"}.get(name, name), chart))
    lead = "Validation examples steer every choice (solid line); the test examples were read once, at the end."
    return section(
        "How it learned", f'<div class="pair">{"".join(figures)}</div>', _history_table(data.history, score), lead=lead
    )


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["epoch"]), value) for row in history if (value := _number(row.get(key))) is not None]


def _history_table(history: Sequence[Mapping[str, Any]], score: str) -> Markup:
    keys = ["epoch", "train_loss", "validation_loss", "train_score", "validation_score", "learning_rate", "seconds"]
    keys = [key for key in keys if any(row.get(key) is not None for row in history)]
    step = -(-len(history) // 200)
    rows = [[cell(row.get(key)) for key in keys] for row in history[::step]]
    heads = [key.replace("_score", f" {score}").replace("_", " ") for key in keys]
    caption = "Every epoch" if step == 1 else f"One epoch in {step}"
    return details("The numbers behind the curves", table(caption, heads, rows, numeric=range(len(keys))))


# ---------------------------------------------------------------- the rest


def _scores(data: ReportData) -> str:
    """Every score of the network and its baselines with the intervals."""
    measured = [("this network", data.metrics)] + [
        (BASELINE_NAMES.get(key, key), m) for key, m in data.baselines.items()
    ]
    rows = []
    for name, (label, gloss) in METRIC_WORDS.items():
        if name not in data.metrics:
            continue
        cells = []
        for _, m in measured:
            span = interval_text(m, name, DASH)
            cells.append(
                Markup(f"{text(value_text(m, name))}" + (f' <small class="span">{text(span)}</small>' if span else ""))
            )
        rows.append((label, *cells, Markup(f'<small class="gloss">{text(gloss)}</small>')))
    head = ("score", *(label for label, _ in measured), "")
    what = (
        "characters of the test part"
        if "nats" in data.metrics
        else "images drawn"
        if data.output is None
        else "test examples"
    )
    caption = f"On the {data.metrics['n']:,} {what}, with 95% intervals where they can be told"
    return section("All scores", table(caption, head, rows, style="scores"))


def _making(data: ReportData) -> str:
    parts = []
    if data.settings:
        rows = "".join(
            f"<div><dt>{text(key)}</dt><dd>{_setting(value)}</dd></div>" for key, value in data.settings.items()
        )
        parts.append(f'<dl class="settings">{rows}</dl>')
    if data.network:
        lines = "\n".join(text(line) for line in data.network)
        parts.append(f'<h3>The network</h3><pre tabindex="0">{lines}</pre>')
    if data.notes:
        parts.append(
            f"<h3>Choices made on the way</h3><ul>{''.join(f'<li>{text(note)}</li>' for note in data.notes)}</ul>"
        )
    return section("How it was made", *parts) if parts else ""


def _setting(value: Any) -> Markup:
    if isinstance(value, bool) or value is None:
        return text({True: "yes", False: "no", None: "none"}[value])
    if isinstance(value, (list, tuple)):
        return text(", ".join(str(item) for item in value), 120)
    return text(f"{value:g}" if isinstance(value, float) else value, 120)


def _onward(data: ReportData) -> str:
    run = shlex.quote(data.run)
    source = "picture.png" if data.describe and isinstance(data.describe(0), np.ndarray) else "rows.csv"
    if data.files:
        source = f"new{Path(data.files[0]).suffix}"
    use = [("Use it on new data", f"pellucid predict {run} {source}")]
    if data.output is None:
        use = [("Let it make more", f"pellucid sample {run}")]
    commands = data.commands
    if commands is None:
        commands = [
            *use,
            ("Measure it again", f"pellucid evaluate {run}"),
            ("See the network layer by layer", f"pellucid summary {run}"),
            ("Train on from its last epoch", f"pellucid train --resume {run} --epochs {len(data.history) * 2 or 20}"),
        ]
    body = joined(f'<h3>{text(label)}</h3><pre tabindex="0">{text(command)}</pre>' for label, command in commands)
    return section("How to go on", body)
