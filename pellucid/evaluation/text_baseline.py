"""TF-IDF of raw text, for the linear baselines beside a network that reads text (floor 7).

Scikit-learn's own words and vocabulary, fitted to the training rows: what a user would otherwise take. It shares nothing with
the hashed features of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

Texts = Sequence[Sequence[str]]  # of each column of text, the N values
MAX_WORDS = 200_000  # words and pairs of a column
RARE_FROM = 1000  # training rows from which a word that only one of them has is left out
ENCODED = ("text", "text_weights")  # what the network reads in place of text


def with_tfidf(inputs: Sequence[Mapping[str, Any]], texts: Sequence[Texts]) -> list[dict[str, Any]]:
    """Inputs with one sparse matrix `tfidf` (N, words) in place of the encoded text. inputs, texts: of training, then others."""
    matrices = []
    for columns in zip(*texts, strict=True):  # one column of text, in each part
        own = columns[0]
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), max_features=MAX_WORDS, min_df=2 if len(own) >= RARE_FROM else 1,
            dtype=np.float32, token_pattern=r"(?u)\b\w+\b",
        )  # fmt: skip
        try:
            matrices.append([vectorizer.fit_transform(own), *map(vectorizer.transform, columns[1:])])
        except ValueError:  # no word at all
            continue
    plain = [{name: array for name, array in part.items() if name not in ENCODED} for part in inputs]
    if not matrices:
        return plain
    wholes = (sparse.hstack(own, format="csr") for own in zip(*matrices, strict=True))
    return [{**part, "tfidf": whole} for part, whole in zip(plain, wholes, strict=True)]
