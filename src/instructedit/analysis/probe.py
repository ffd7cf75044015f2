"""A linear probe: can the label be read off a direction that the probe has not seen?"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

STRENGTH = 10.0  # the inverse of the penalty, for points at a mean squared distance of one from their mean


def probe_labels(
    x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], folds: int = 5, seed: int = 0
) -> Float[Tensor, " k"]:
    """The share of each label's points that a logistic regression trained on the other folds gets right.

    The mean of it is the balanced accuracy: chance is 1 / k however unequal the labels' counts. Folds hold
    each label in equal parts and are drawn from `seed`; every label needs at least `folds` points.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    scale = (x - x.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-12)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    guessed = torch.from_numpy(cross_val_predict(model, (x / scale).numpy(), labels.numpy(), cv=parts))
    right = (guessed == labels).double()
    return torch.stack([right[labels == label].mean() for label in range(int(labels.max()) + 1)])
