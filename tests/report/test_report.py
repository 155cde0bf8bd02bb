"""The report as a browser would read it: well formed, self-contained, escaped, and honest about the baseline."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pellucid.errors import DataError
from pellucid.evaluation.evaluator import TestPredictions
from pellucid.evaluation.metrics import classification_metrics, regression_metrics
from pellucid.report import charts
from pellucid.report.html import picture, printable
from pellucid.report.report import ReportData, render_report, write_report
from pellucid.runs.records import EpochRecord

VOID = {"meta", "img", "br", "line", "circle", "rect", "path", "polyline"}
NASTY = "<script>alert('x')</script> & \"q\"\x00"


class Page(HTMLParser):
    """Text, tags and attributes of a page; asserts on the way that every tag is closed in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


def history(n):
    return [
        EpochRecord(i, i, {"loss": 2 / i, "accuracy": 1 - 1 / (i + 1)},
                    {"loss": 1 / i + (i / n) ** 2, "accuracy": 0.9 - 1 / (i + 2)}, 1e-3, False, 0.5, 1.0)
        for i in range(1, n + 1)
    ]  # fmt: skip


def classification(k=3, n=120, sharp=2.0, baseline_sharp=0.0, **changes):
    rng = np.random.default_rng(0)
    target = rng.integers(0, k, n)
    outputs = []
    for size in (sharp, baseline_sharp):
        logits = rng.normal(size=(n, k))
        logits[np.arange(n), target] += size
        outputs.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    fields = {
        "title": "mlp on people", "run": "runs/people-mlp-1", "task": "classification",
        "metrics": classification_metrics(outputs[0], target),
        "baselines": {"logistic_regression": classification_metrics(outputs[1], target)}, "history": history(8),
        "settings": {"layers": [128, 64], "lr": 1e-3, "early stop": True}, "network": ["layers.0  Linear 784→128"],
        "notes": ["target income: text"],
    }  # fmt: skip
    predictions = {"output": outputs[0], "target": target, "classes": [f"class {i}" for i in range(k)]}
    return report_data(fields, predictions, changes)


def report_data(fields, predictions, changes):
    """`changes` are of the report, or of the predictions in it."""
    own = {name: changes.pop(name) for name in list(changes) if name in TestPredictions.__dataclass_fields__}
    return ReportData(**{**fields, "predictions": TestPredictions(**{**predictions, **own}), **changes})


def regression(n=90, **changes):
    rng = np.random.default_rng(0)
    target = rng.normal(size=n) * 10 + 50
    output = target + rng.normal(size=n)
    fields = {
        "title": "mlp on housing", "run": "runs/housing-mlp-1", "task": "regression", "metrics": regression_metrics(output, target),
        "baselines": {"mean": regression_metrics(np.full(n, 50.0), target)},
    }  # fmt: skip
    return report_data(fields, {"output": output, "target": target, "target_name": "price"}, changes)


def test_a_classification_page_shows_score_interval_verdict_and_where_to_go_on():
    data = classification()
    page = Page(render_report(data))
    m = data.metrics
    assert f"{100 * m['accuracy']:.1f}%" in page.text
    assert f"Right on {m.correct} of 120 test examples" in page.text
    assert "Better than logistic regression" in page.text
    assert "128, 64" in page.text and "early stop yes" in page.text and "target income: text" in page.text
    assert "pellucid predict runs/people-mlp-1 rows.csv" in page.text
    assert "best: epoch" in page.text
    for heading in ("How it learned", "What it confuses", "Its worst mistakes", "Class by class", "All scores"):
        assert heading in page.text


@pytest.mark.parametrize(
    ("sharp", "baseline_sharp", "words"),
    [(2.0, 2.0, "No better than logistic regression"), (0.0, 3.0, "Worse than logistic regression")],
)
def test_a_network_that_is_no_better_says_so(sharp, baseline_sharp, words):
    assert words in Page(render_report(classification(sharp=sharp, baseline_sharp=baseline_sharp))).text


def test_nothing_is_fetched_and_nothing_runs():
    for data in (classification(describe=lambda i: np.zeros((8, 8), np.uint8)), regression()):
        source = render_report(data)
        page = Page(source)
        assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
        assert "default-src 'none'" in source and "url(" not in source and "@import" not in source
        assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
        assert not page.values("href") and "http://" not in source and "https://" not in source


def test_every_user_text_is_escaped():
    data = classification(
        classes=[NASTY, "b", "c"], title=NASTY, run=NASTY, notes=[NASTY], network=[NASTY], settings={NASTY: NASTY},
        describe=lambda i: {NASTY: NASTY}, commands=[(NASTY, NASTY)], created=NASTY,
        baselines={NASTY: classification().metrics},
    )  # fmt: skip
    source = render_report(data)
    page = Page(source)
    assert "script" not in page.tags and not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "\x00" not in source and page.text.count("alert('x')") > 10
    source = render_report(regression(target_name=NASTY, describe=lambda i: {NASTY: i}))
    assert "script" not in Page(source).tags
    assert printable("\ud800") == "\N{REPLACEMENT CHARACTER}"


def test_the_worst_mistakes_are_the_surest_ones_with_their_pictures():
    data = classification()
    said, sure = data.predictions.output.argmax(axis=1), data.predictions.output.max(axis=1)
    wrong = [i for i in np.argsort(-sure) if said[i] != data.predictions.target[i]]
    asked = []

    def describe(i):
        asked.append(i)
        return np.full((5, 7), i, np.uint8)

    page = Page(render_report(classification(describe=describe)))
    images = [Image.open(io.BytesIO(base64.b64decode(value.split(",")[1]))) for value in page.values("src")]
    assert [image.getpixel((0, 0)) for image in images] == wrong[:24]
    assert images[0].size == (7, 5)
    first = wrong[0]
    assert page.values("alt")[0].startswith(f"said class {said[first]} (")
    assert f"was class {data.predictions.target[first]}" in page.values("alt")[0]


def test_rows_stand_beside_the_mistakes_without_the_target():
    rows = {
        "describe": lambda i: {"age": str(1000 + i), "income": "hidden", "note": "long " * 50},
        "target_name": "income",
    }
    page = Page(render_report(classification(**rows)))
    data = classification()
    wrong = np.flatnonzero(data.predictions.output.argmax(axis=1) != data.predictions.target)
    assert sum(str(1000 + i) in page.text for i in wrong.tolist()) == min(15, len(wrong))
    assert "hidden" not in page.text and "…" in page.text


def test_without_mistakes_it_shows_the_least_certain_answers():
    target = np.arange(20) % 2
    output = np.where(np.eye(2)[target] > 0, 0.9, 0.1)
    output[3] = output[3][::-1] * 0 + [0.4, 0.6]
    page = Page(
        render_report(
            classification(
                k=2, n=20, output=output, target=target, metrics=classification_metrics(output, target), baselines={}
            )
        )
    )
    assert "It made no mistake" in page.text and "No test example was taken for another class" in page.text
    assert "No baseline was measured beside it" in page.text


@pytest.mark.parametrize("k", [2, 15, 16, 60, 100, 150])
def test_any_number_of_classes_stays_readable_and_small(k):
    source = render_report(classification(k=k, n=3000, sharp=1.0))
    page = Page(source)
    assert len(source) < 600_000
    assert "Most often mistaken" in page.text
    matrix = [value for tag, name, value in page.attributes if (tag, name) == ("table", "class") and "matrix" in value]
    assert bool(matrix) == (k <= 15)


def test_a_regression_page_shows_scatter_errors_and_worst_rows():
    data = regression(describe=lambda i: {"rooms": i * 1.5, "price": "hidden"}, history=history(5))
    page = Page(render_report(data))
    assert "Better than mean of the training rows" in page.text and "test error (rmse) of price" in page.text
    assert "true price" in page.text and "predicted minus true" in page.text and "hidden" not in page.text
    worst = int(np.argmax(np.abs(data.predictions.output - data.predictions.target)))
    assert f"{data.predictions.output[worst]:.2f}" in page.text


def test_a_poor_history_still_makes_a_page():
    sparse = [EpochRecord(1, 1, {"loss": 2.0, "accuracy": None}, {"loss": float("nan")}, 1e-3, False, 0.5, 1.0)]
    assert "best: epoch" not in Page(render_report(classification(history=sparse))).text
    assert "How it learned" not in Page(render_report(classification(history=[]))).text
    long = render_report(classification(history=history(5000)))
    Page(long)
    assert len(long) < 300_000


def test_constant_answers_and_one_example_still_make_a_page():
    same = np.full(5, 2.0)
    Page(render_report(regression(output=same, target=same, metrics=regression_metrics(same, same), baselines={})))
    output, target = np.array([[0.2, 0.8]]), np.array([1])
    Page(
        render_report(
            classification(
                k=2, output=output, target=target, metrics=classification_metrics(output, target), baselines={}
            )
        )
    )


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = write_report(tmp_path / "report.html", classification())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(DataError):
        write_report(tmp_path / "nowhere" / "report.html", classification())


def test_big_pictures_are_scaled_down_and_small_ones_stay_exact():
    small, big = picture(np.zeros((8, 8), np.uint8), "s"), picture(np.zeros((500, 300, 3), np.uint8), "b")
    assert 'class="pixels"' in small and "pixels" not in big
    data = re.search(r"base64,([^\"]+)", big)
    assert data and max(Image.open(io.BytesIO(base64.b64decode(data[1]))).size) == 112


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.943, 0.984, [0.95, 0.96, 0.97, 0.98]), (3, 3, [3])],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert charts.ticks(low, high) == expected


def test_logarithmic_ticks_never_crowd():
    assert charts.log_ticks(0.015, 1.2) == [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert len(charts.log_ticks(1e-30, 1e30)) <= 9
