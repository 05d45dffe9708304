"""Trains a probe: python3 train.py residuals.npz probe.joblib. The .npz has ``values``,
[tokens, hidden], and ``labels``, [tokens], of 0 and 1."""

import sys

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression


def train(values, labels):
    """The probe of residuals and labels."""
    return LogisticRegression(max_iter=1000).fit(values, labels)


if __name__ == "__main__":
    data = np.load(sys.argv[1])
    joblib.dump(train(data["values"], data["labels"]), sys.argv[2])
