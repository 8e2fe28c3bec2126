"""Digit classifier: a small convolutional network that later judges generated pictures.

Its penultimate layer, 64 numbers a picture, is the space in which FID and KID compare real and generated digits.
"""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """28 × 28 grey pictures → logits of the ten digits.

    Parameters
    ----------
    width : int
        Channels of the first layer.
    """

    FEATURES = 64

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            nn.Conv2d(1, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),  # (B, w, 28, 28)
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(),  # (B, 2w, 14, 14)
            nn.Conv2d(2 * w, 2 * w, 3, padding=1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(),
            nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU(),  # (B, 4w, 7, 7)
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4 * w * 49, self.FEATURES, bias=False),
            nn.BatchNorm1d(self.FEATURES, affine=False),  # each feature: mean 0 and variance 1 over the training digits
        )  # fmt: skip
        self.head = nn.Linear(self.FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """Describe each picture (B, 1, 28, 28) in [0, 1] by 64 numbers of about unit variance: (B, 64)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the ten digits: (B, 10)."""
        return self.head(self.features(x).relu())
