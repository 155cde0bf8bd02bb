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


def with_tfidf(
    train_inputs: Mapping[str, Any], test_inputs: Mapping[str, Any], train: Texts, test: Texts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of training and test with one sparse matrix `tfidf` (N, words) in place of the encoded text."""
    matrices = []
    for own, other in zip(train, test, strict=True):
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), max_features=MAX_WORDS, min_df=2 if len(own) >= RARE_FROM else 1,
            dtype=np.float32, token_pattern=r"(?u)\b\w+\b",
        )  # fmt: skip
        try:
            matrices.append((vectorizer.fit_transform(own), vectorizer.transform(other)))
        except ValueError:  # no word at all
            continue
    pair = []
    for inputs, place in ((train_inputs, 0), (test_inputs, 1)):
        plain = {name: array for name, array in inputs.items() if name not in ENCODED}
        own = [both[place] for both in matrices]
        pair.append(plain | ({"tfidf": sparse.hstack(own, format="csr")} if own else {}))
    return pair[0], pair[1]
