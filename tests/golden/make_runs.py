"""Makes the golden runs that are missing in the format that pellucid writes now: python tests/golden/make_runs.py

A golden run is a tiny run of a family with what it predicts, in tests/golden/formatN/NAME. `tests/runs/test_golden.py` reads
the runs of all formats with every later version. So a run that is there is never made again by this program.

Run it for a new family, after an entry in RUNS, and when FORMAT in `pellucid/runs/records.py` was raised. If names in a format
changed before its first release, delete the runs of that format first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from pellucid.data.load import load_problem, open_source
from pellucid.inference.forecast import forecast
from pellucid.inference.predictor import Predictor
from pellucid.inference.sampler import Sampler
from pellucid.inference.text_scorer import TextScorer
from pellucid.models.heads.generation import ImageGenerator
from pellucid.models.heads.language import LanguageModel
from pellucid.random import Generator
from pellucid.runs import run as runs
from pellucid.runs.records import FORMAT
from pellucid.training import session

HERE = Path(__file__).parent
QUICK = {"epochs": 1, "batch_size": 8, "steps_per_epoch": 20, "eager": True, "ema_decay": 0.0}
RUNS: dict[str, tuple[str, str, dict, dict]] = {  # name -> family, data, options of the data, values
    "mlp-table": ("mlp", "people.csv", {"target": "income"}, {"hidden_sizes": [3]}),
    "mlp-images": ("mlp", "digits", {}, {"hidden_sizes": [4]}),
    "cnn": ("cnn", "digits", {}, {"channels": [2, 2], "depth": 1}),
    "transformer": (
        "transformer",
        "story.txt",
        {},
        {"num_layers": 1, "num_heads": 1, "d_model": 4, "context_length": 8},
    ),
    "lstm-text": ("lstm", "story.txt", {}, {"hidden_sizes": [3], "embedding_dim": 3, "context_length": 8}),
    "lstm-series": (
        "lstm",
        "tides.csv",
        {"target": "level", "time_column": "hour", "lookback": 6},
        {"hidden_sizes": [2]},
    ),
    "gan": ("gan", "digits", {}, {"width": 2, "critic_width": 2, "latent": 2}),
    "diffusion": ("diffusion", "digits", {}, {"width": 8, "depth": 1, "sampling_steps": 2, "attention": False}),
}
TEXT = "the cat ran to the mat"


def predictions(run: runs.Run) -> list[float]:
    """What a golden run gives for the data beside this file, as numbers: probabilities, forecasts, losses or pixels."""
    network = run.new_network()
    if isinstance(network, ImageGenerator):
        return Sampler(run).images(np.array([0, 1]), Generator(0)).reshape(-1).astype(float).tolist()
    if isinstance(network, LanguageModel):
        return [nll for _, _, nll in TextScorer(run).token_nll(TEXT)]
    predictor = Predictor(run)
    if run.config.kind == "series":
        table = predictor.kind.read_table(predictor.preprocessor, open_source(str(HERE / "tides.csv"), predictor.kind))
        return [step.value for step in forecast(predictor.forward.native, predictor.preprocessor, table, 3)]
    answers = predictor.predict([str(HERE / ("people.csv" if run.config.kind == "table" else "seven.png"))])
    return answers.output[:5].reshape(-1).tolist()


def write_data() -> None:
    """The data that golden runs are trained on, where they are not there yet."""
    chance = np.random.default_rng(0)
    ages, cities = chance.integers(18, 80, 60), chance.choice(["Rome", "Oslo"], 60)
    rows = [f"{age},{city},{'yes' if age > 45 else 'no'}" for age, city in zip(ages, cities, strict=True)]
    steps = [f"2024-03-{1 + i // 24:02} {i % 24:02}:00,{np.sin(i / 3):.4f}" for i in range(120)]
    files = {
        "people.csv": "\n".join(["age,city,income", *rows]) + "\n",
        "story.txt": "the cat sat on the mat and ran to its red hat\n" * 40,
        "tides.csv": "\n".join(["hour,level", *steps]) + "\n",
    }
    for name, text in files.items():
        if not (HERE / name).exists():
            (HERE / name).write_text(text, encoding="utf-8")


def main() -> None:
    write_data()
    folder = HERE / f"format{FORMAT}"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        for name in ("people.csv", "story.txt", "tides.csv"):
            shutil.copy(HERE / name, elsewhere)
        os.chdir(elsewhere)
        for name, (family, data, options, values) in RUNS.items():
            if (folder / name).exists():
                continue
            problem = load_problem(data, **options)
            problem.source.pop("path", None)  # of this machine
            training = session.start(problem, family, {**QUICK, **values}, folder / name)
            for _ in training.events():
                pass
            training.finish()
            shutil.rmtree(folder / name / "samples", ignore_errors=True)
            (folder / name / "report.html").unlink()
            if family == "diffusion":  # 120 kB; the GAN's says the same of networks that draw
                (folder / name / "checkpoint.safetensors").unlink()
            recorded = predictions(runs.load_run(folder / name))
            (folder / name / "predictions.json").write_text(json.dumps([float(f"{x:.7g}") for x in recorded]) + "\n")


if __name__ == "__main__":
    main()
