"""What can be done with runs that write or draw: evaluate, predict, sample, summary, and judges."""

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pellucid as pl
from pellucid.data import datasets as catalogue
from pellucid.evaluation.generation import network_features
from pellucid.inference.sampler import Sampler
from pellucid.inference.text_scorer import TextScorer
from pellucid.runs import run as runs

QUICK = ("--epochs", 1, "--quiet", "--eager", "--set", "steps_per_epoch=4", "--set", "batch_size=8")
TINY = ("--set", "num_layers=1", "--set", "num_heads=1", "--set", "d_model=8", "--set", "context_length=8")
DRAWS = ("digits", "--model", "gan", "--set", "width=2", "--set", "critic_width=2", "--set", "latent=3")
NAMES = ("digits", "--model", "cnn", "--set", "channels=4,4", "--set", "depth=1", "--set", "whiten=2")


def told(run, *words):
    return json.loads(run(*words, "--json").stdout)


def says(run, *words):
    return run(*words, code=2).stderr


@pytest.fixture
def writer(run, story):
    run("train", story, *TINY, *QUICK)
    return "story-transformer-1"


@pytest.fixture
def drawer(run):
    run("train", *DRAWS, *QUICK)
    return "digits-gan-1"


def score(name, validation, test):
    """Have a run of one epoch say that it had these accuracies."""
    of_run = runs.find_run(name)
    (epoch,), last = of_run.history(), of_run.result()
    of_run.metrics.unlink()
    of_run.log(replace(epoch, validation={**epoch.validation, "accuracy": validation}))
    of_run.log(replace(last, test=replace(last.test, scores={**last.test.scores, "accuracy": test})))


def result_of(name):
    test = json.loads(Path(f"runs/{name}/metrics.jsonl").read_text().splitlines()[-1])["test"]
    return {**test["scores"], "n": test["n"]}


# ---- runs that write -----------------------------------------------------------------------------------------------------


def test_a_writer_is_scored_on_its_test_part_beside_n_grams(run, writer):
    about, then = told(run, "evaluate", writer), result_of(writer)
    assert {name: about[name] for name in ("nll_per_char", "perplexity", "bits_per_char", "n")} == {
        name: then[name] for name in ("nll_per_char", "perplexity", "bits_per_char", "n")
    }
    assert about["baseline"]["name"] == "kneser_ney_5" and about["baseline"]["nll_per_char"] < about["nll_per_char"]
    lines = run("evaluate", writer).stdout.splitlines()
    assert "nats per character (n 749," in lines[0] and lines[-1].split() == [
        "baseline", "Kneser-Ney", "5-grams", f"{about['baseline']['nll_per_char']:.3f}",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["perplexity", "bits_per_char", "baseline"]


def test_a_text_it_has_learned_from_scores_as_told_and_is_noted(run, writer, story):
    assert "flatters" in run("evaluate", writer, story).stderr
    text = story.read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    Path("end.txt").write_text(text[cut:], encoding="utf-8")
    assert told(run, "evaluate", writer, "end.txt")["nll_per_char"] == pytest.approx(
        result_of(writer)["nll_per_char"], rel=1e-6
    )


def test_characters_never_seen_are_told(run, writer):
    Path("new.txt").write_text("the cat sät on 7 mats", encoding="utf-8")
    for command in ("evaluate", "predict"):
        result = run(command, writer, "new.txt")
        assert "2 of 21 characters were never seen in training ('7', 'ä')" in result.stderr
        assert "(n 20," in result.stdout
    assert "1 of 1 characters were never seen" in run("sample", writer, "--prompt", "ä", "--length", 3).stderr


def test_predict_tells_the_nats_of_each_text_on_a_line(run, writer, story):
    Path("cat.txt").write_text("the cat sat on a mat", encoding="utf-8")
    lines = run("predict", writer, "cat.txt", story).stdout.splitlines()
    assert lines[0].startswith("cat.txt: ") and lines[1].startswith(f"{story}: ") and len(lines) == 2
    about = told(run, "predict", writer, "cat.txt")
    assert about["n"] == 1 and about["predictions"][0]["characters"] == 19
    assert f"{about['predictions'][0]['nll_per_char']:.3f} nats per character" in lines[0]


@pytest.mark.parametrize("text", ["the cat sat on\r\na mat", "so, är it was:\n\n\t“yes”"])
def test_predict_writes_each_character_with_its_nats(run, writer, text):
    Path("some.txt").write_bytes(text.encode())
    run("predict", writer, "some.txt", "--out", "each.csv")
    with open("each.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    plain = text.replace("\r\n", "\n")
    assert [row["position"] for row in rows] == [str(i) for i in range(2, len(plain) + 1)]
    assert "".join(row["character"] for row in rows) == plain[1:]
    mean = sum(float(row["nats"]) for row in rows) / len(rows)
    assert told(run, "predict", writer, "some.txt")["predictions"][0]["nll_per_char"] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("more", [(), ("--tokenizer", "bpe", "--vocab-size", 270)])
def test_each_token_stands_for_the_characters_that_begin_in_it(run, story, more):
    if more:
        pytest.importorskip("tokenizers")
    run("train", story, *TINY, *QUICK, *more)
    reader = TextScorer(runs.find_run("last"))
    text = "the cät sat on her hat\nand än"
    found = reader.token_nll(text)
    start = found[0][0] - 1
    assert "".join(letters for _, letters, _ in found) == text[start:] and 0 < start < 4
    assert all(text[place - 1 :].startswith(letters) for place, letters, _ in found)
    assert sum(nats for *_, nats in found) / (len(text) - start) == pytest.approx(
        reader.score(text)["nll_per_char"], rel=1e-5
    )


def test_lines_are_read_line_by_line(run, story):
    run(
        "train",
        story,
        "--line-by-line",
        "--set",
        "num_layers=1",
        "--set",
        "num_heads=1",
        "--set",
        "d_model=8",
        "--set",
        "context_length=64",
        *QUICK,
    )
    Path("two.txt").write_text("the cat\n\nand a mat  \n", encoding="utf-8")
    assert told(run, "predict", "last", "two.txt")["predictions"][0]["characters"] == len("the cat\nand a mat\n")
    run("predict", "last", "two.txt", "--out", "each.csv")
    with open("each.csv", newline="", encoding="utf-8") as file:
        assert "".join(row["character"] for row in csv.DictReader(file)) == "the cat\nand a mat\n"
    assert told(run, "evaluate", "last", "two.txt")["n"] == 18


def test_lines_of_the_text_it_was_trained_on_are_split_as_they_were(run, story, monkeypatch):
    file = catalogue.File(story.name, hashlib.sha256(story.read_bytes()).hexdigest(), story.stat().st_size)
    tale = catalogue.Dataset("tale", "text", "a tale", "400", "free", "nowhere", (file,))
    monkeypatch.setattr(catalogue, "DATASETS", (*catalogue.DATASETS, tale))
    monkeypatch.setenv("PELLUCID_DATA", str(story.parent))
    run("train", "tale", "--line-by-line", *TINY[:-1], "context_length=64", *QUICK, "--seed", 3)
    assert told(run, "evaluate", "last", "tale")["nll_per_char"] == pytest.approx(
        result_of("tale-transformer-1")["nll_per_char"]
    )


def test_a_line_that_is_too_long_is_named(run, story):
    run("train", story, "--line-by-line", *TINY[:-1], "context_length=48", *QUICK)
    Path("long.txt").write_text("the cat\n\n" + "mat " * 20 + "\n", encoding="utf-8")
    assert "long.txt, line 3: 80 tokens, with its end ('mat mat" in says(run, "evaluate", "last", "long.txt")
    Path("long.txt").write_text("the cat\n" * 9 + "x" * 1_000_000, encoding="utf-8")
    assert "long.txt, line 10: 1,000,000 characters" in says(run, "predict", "last", "long.txt")


def test_lines_are_sampled_to_their_end(run, story):
    run("train", story, "--line-by-line", *TINY[:-1], "context_length=64", *QUICK)
    sampler = Sampler(runs.find_run("last"))
    network, newline = sampler.network, int(sampler.preprocessor.tokenizer.encode("\n")[0])
    asked = network.next_logits
    calls = []

    def third_ends(tokens, state):
        calls.append(tokens.shape[1])
        logits, state = asked(tokens, state)
        logits = logits.detach().numpy().copy()
        logits[:, newline] = 1000 if len(calls) % 3 == 0 else -1000
        return pl.tensor(logits), state

    network.next_logits = third_ends
    assert len(sampler.text("the ", 50)) == 2 and calls == [5, 1, 1]  # nothing is drawn behind the end
    assert len(sampler.text("", 2)) == 2 and calls[3:] == [1, 1]


def test_long_texts_are_read_compiled_with_the_same_nats(run, writer, story):
    eager, compiled = (TextScorer(runs.find_run(writer)) for _ in range(2))
    compiled.eager = False
    text = eager.text(str(story))
    one, other = eager.token_nll(text), compiled.token_nll(text)
    assert len(one) == len(text) - 1 and one == [(i, letters, pytest.approx(x, rel=1e-4)) for i, letters, x in other]


TEXTS = {
    "nothing": (["evaluate", "RUN", "empty.txt"], "empty.txt: the file is empty"),
    "one character": (["predict", "RUN", "one.txt"], "one.txt: 1 characters; expected 2 tokens at least"),
    "no such file": (["predict", "RUN", "no.txt"], "no.txt: no such"),
    "not text": (["predict", "RUN", "odd.txt"], "odd.txt.*(binary|text)"),
    "two texts with --out": (["predict", "RUN", "one.txt", "one.txt", "--out", "x.csv"], "DATA: 2 texts; expected one"),
    "pictures of a text": (["predict", "RUN", "one.txt", "--preview"], "--preview: .* reads texts"),
    "a horizon": (["predict", "RUN", "one.txt", "--horizon", 3], "--horizon 3: .* was not trained on a series"),
    "a set of images": (["evaluate", "RUN", "digits"], "digits: a data set of kind image; expected a text"),
    "a judge": (
        ["evaluate", "RUN", "--feature-network", "RUN"],
        "--feature-network story-transformer-1: .* generates no images",
    ),
    "a class": (["sample", "RUN", "--class", 3], "--class: .* generates text"),
    "a mad temperature": (["sample", "RUN", "--temperature", "nan"], "--temperature nan: expected 0 or more"),
}


def test_texts_and_options_that_cannot_be_used(run, writer):
    for name, content in {"empty": b"", "one": b"a", "odd": b"a\x00\x01\xff\x00"}.items():
        Path(f"{name}.txt").write_bytes(content)
    for case, (words, expected) in TEXTS.items():
        line = says(run, *(writer if word == "RUN" else word for word in words))
        assert re.search(expected, line), (case, line)
    assert not Path("x.csv").exists()


def test_a_summary_of_a_writer_shows_its_layers(run, writer):
    assert "h.0.attn.c_attn" in run("summary", writer).stdout


def test_a_writer_can_be_begun_with_only_by_a_text_of_its_tokens(run, writer, story):
    story.with_name("more.txt").write_text(story.read_text(encoding="utf-8")[3000:], encoding="utf-8")
    story.with_name("other.txt").write_text(story.read_text(encoding="utf-8").replace("cat", "cow"), encoding="utf-8")
    assert (
        "weights taken from story-transformer-1"
        in run("train", "more.txt", "--init-from", writer, *QUICK[:2], *QUICK[3:]).stderr
    )
    assert "--init-from story-transformer-1: its tokens are not those" in says(
        run, "train", "other.txt", "--init-from", writer, *QUICK
    )


# ---- runs that draw ------------------------------------------------------------------------------------------------------


def test_a_drawer_is_judged_by_pixels_then_by_the_cnn_that_is_found_or_named(run, drawer):
    by_pixels = told(run, "evaluate", drawer)
    assert by_pixels["frechet"] == result_of(drawer)["frechet"] and "conditional_accuracy" not in by_pixels
    assert "coarse pixels" in run("evaluate", drawer).stderr
    for name in ("one", "two"):
        run("train", *NAMES, *QUICK, "--lr", 0.01 if name == "one" else 0.02, "--run-dir", f"runs/{name}")
    best, other = "two", "one"
    score(best, validation=0.6, test=0.5)
    score(other, validation=0.5, test=0.6)  # the test images are not what a judge is chosen by
    found = run("evaluate", drawer)
    assert f"note: judged by {best}, which names" in found.stderr and "conditional_accuracy" in found.stdout
    assert f"note: judged by {other}, which names" in run("evaluate", drawer, "--feature-network", other).stderr
    Path(f"runs/{best}/model.safetensors").unlink()
    assert f"note: judged by {other}, which names" in run("evaluate", drawer).stderr
    Path(f"runs/{other}/model.safetensors").write_bytes(b"cut off")
    assert "coarse pixels" in run("evaluate", drawer).stderr


def test_the_features_of_few_images_are_a_judges_features(run):
    run("train", *NAMES, *QUICK, "--run-dir", "judge")
    features, logits, _ = network_features(runs.find_run("judge"))
    images = np.zeros((5, 8, 8), np.float32)
    assert features(images).shape == (5, 4) and logits(images).shape == (5, 10)


def test_a_judge_named_in_training_is_kept(run):
    run("train", *NAMES, *QUICK, "--run-dir", "elsewhere")
    run("train", *DRAWS, *QUICK, "--feature-network", "elsewhere")
    config = json.loads(Path("runs/digits-gan-1/config.json").read_text())
    assert Path(config["feature_network"]) == Path("elsewhere").resolve()
    assert "conditional_accuracy" in result_of("digits-gan-1")
    assert told(run, "evaluate", "last")["conditional_accuracy"] == result_of("digits-gan-1")["conditional_accuracy"]
    Path("again.toml").write_text('model = "gan"\nfeature_network = "elsewhere"\nwidth = 2\ncritic_width = 2\n')
    run("train", "digits", "--config", "again.toml", *QUICK)
    assert "conditional_accuracy" in result_of("digits-gan-2")


def test_a_judge_or_pictures_that_are_gone_do_not_stop_a_training(run):
    run("train", *NAMES, *QUICK, "--run-dir", "elsewhere")
    run("train", *DRAWS, *QUICK, "--feature-network", "elsewhere")
    Path("elsewhere").rename("moved")
    shutil.rmtree("runs/digits-gan-1/samples")
    assert "the judge that was named is passed over: " in run("evaluate", "last").stderr
    run("train", "--resume", "last", "--epochs", 2, "--quiet")
    assert "conditional_accuracy" not in result_of("digits-gan-1")
    report = Path("runs/digits-gan-1/report.html").read_text(encoding="utf-8")
    assert "is passed over" in report and "<figcaption>epoch 2<" in report and "<figcaption>epoch 1<" not in report


def test_a_drawer_that_is_not_told_the_classes_is_not_asked_for_one(run):
    run("train", *NAMES, *QUICK, "--run-dir", "judge")
    run("train", *DRAWS, *QUICK, "--set", "conditional=false", "--feature-network", "judge")
    assert "conditional_accuracy" not in result_of("digits-gan-1") and "max_class_share" in result_of("digits-gan-1")
    assert "--class 7: digits-gan-1 was never told the classes" in says(run, "sample", "last", "--class", 7)
    assert told(run, "sample", "last", "--n", 9)["classes"] == []
    with Image.open("digits-gan-1-sample.png") as picture:
        assert picture.size == (3 * 26, 3 * 26)


def test_a_judge_can_be_named_when_a_run_goes_on(run, drawer):
    run("train", *NAMES, *QUICK, "--run-dir", "elsewhere")
    run("train", "--resume", drawer, "--epochs", 2, "--feature-network", "elsewhere", "--quiet")
    config = json.loads(Path(f"runs/{drawer}/config.json").read_text())
    assert Path(config["feature_network"]) == Path("elsewhere").resolve() and "conditional_accuracy" in result_of(
        drawer
    )
    assert "for a cnn, which draws nothing" in says(
        run, "train", "--resume", "elsewhere", "--feature-network", "elsewhere"
    )
    few = says(run, "train", "--resume", drawer, "--epochs", 1)
    assert (
        "--epochs: 1, and digits-gan-1 has done 2 already; expected --epochs of at least that many; write --epochs 4"
        in few
    )


def test_judges_that_cannot_be_used(run, drawer, people):
    run("train", "digits", "--hidden-sizes", 4, *QUICK, "--run-dir", "mlp")
    run("train", *NAMES, *QUICK, "--seed", 1, "--run-dir", "seed")
    run("train", *NAMES, *QUICK, "--run-dir", "bare")
    Path("bare/model.safetensors").unlink()
    for name, words in {"mlp": "--feature-network mlp: a mlp on digits; expected a cnn", "seed": "the same --seed", "bare": "--feature-network bare: it has no weights yet", "no": "no: no such run"}.items():  # fmt: skip
        assert words in says(run, "evaluate", drawer, "--feature-network", name)
        assert words in says(run, "train", *DRAWS, *QUICK, "--feature-network", name)
    assert "for a mlp, which draws nothing" in says(run, "train", "digits", *QUICK, "--feature-network", "seed")
    assert {path.name for path in Path("runs").iterdir()} == {drawer}
    assert "seed" not in run("evaluate", drawer).stderr, "a cnn that has seen the test images is not taken"


def test_a_drawer_answers_nothing(run, drawer, people):
    assert "generates images and predicts nothing; expected a run that predicts" in says(run, "predict", drawer, people)
    assert "are compared with its own test data; expected no DATA" in says(run, "evaluate", drawer, "digits")
    assert "generator.project" in run("summary", drawer).stdout


def test_samples_are_drawn_into_a_picture(run, drawer):
    run("sample", drawer, "--n", 12, "--class", 7, "--out", "sevens.png")
    with Image.open("sevens.png") as picture:
        assert picture.size == (3 * 26, 3 * 35)  # three in a row, four rows
    again = told(run, "sample", drawer, "--n", 12, "--class", 7, "--out", "again.png")
    assert again["classes"] == ["7"] * 12 and Path("again.png").read_bytes() == Path("sevens.png").read_bytes()
    for words, expected in {
        ("--class", "x"): "--class x: not among the classes",
        ("--out", "sevens.png"): "exists already",
        ("--out", "sevens.jpg"): "expected a name that ends in .png",
        ("--prompt", "7"): "--prompt: digits-gan-1 generates images",
        ("--top-k", 3): "--top-k: digits-gan-1 generates images",
    }.items():
        assert expected in says(run, "sample", drawer, *words)
