"""From what was collected to what is learned from: small steps, each of which reports what it did.

A step takes rows (a `Split` of pictures and labels, or a list of texts) and returns rows and a `Report`. What is a copy
is settled first: `near_pictures` and `near_texts` number groups of like rows; `deduplicate` and `split` go by them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from genai_lib.data.steps import shift
from genai_lib.data.store import Split
from genai_lib.noise import Noise

Rows = TypeVar("Rows", Split, list[str])


@dataclass(frozen=True)
class Report:
    """What a step did: how many rows there were before and are after it, and figures of its own."""

    name: str
    before: int
    after: int
    details: Mapping[str, float]

    def __str__(self) -> str:
        details = ", ".join(f"{name} {round(value, 4):,}" for name, value in self.details.items())
        return f"{self.name}: {self.before:,} → {self.after:,} rows ({details})"


def validate(data: Split, *, shape: tuple[int, ...], classes: int, low: float = 0.0, high: float = 1.0) -> tuple[Split, Report]:
    """Leave out rows that cannot be right: a value that is no number or outside [low, high], a label outside 0 … classes − 1.

    Raises ValueError if examples are not of the expected shape or labels not as many: then no row can be right.
    """
    x, y = data
    if tuple(x.shape[1:]) != shape or len(x) != len(y):
        raise ValueError(f"expected examples of shape {shape} and as many labels, got {tuple(x.shape)} and {tuple(y.shape)}")
    values = x.flatten(1)  # (N, D)
    unfinite = ~values.isfinite().all(dim=1)
    outside = ((values < low) | (values > high)).any(dim=1) & ~unfinite
    unlabelled = (y < 0) | (y >= classes)
    kept = _take(data, ~(unfinite | outside | unlabelled))
    faults = {"not finite": unfinite, "out of range": outside, "unknown label": unlabelled}
    return kept, Report("validate", len(x), len(kept.x), {name: int(rows.sum()) for name, rows in faults.items()})


def number(labels: Iterable[Hashable]) -> Tensor:
    """Number labels in the order in which they first appear: (N,) int64."""
    order: dict[Hashable, int] = {}
    return torch.tensor([order.setdefault(label, len(order)) for label in labels])


def near_pictures(x: Tensor, *, similarity: float = 1.0) -> Tensor:
    """Number the groups of like pictures (N, C, H, W): (N,) int64, in the order in which they first appear.

    Pictures whose pixels, averaged down to 16 × 16 cells, have a correlation of at least `similarity` are linked, and
    whatever is linked, over others too, is a group. Correlation sees through brightness, contrast, compression and a
    little noise, not through a shift. At 1 only exact copies are linked. All pairs are compared, block by block: 60,000
    digits take a minute.
    """
    cells = F.adaptive_avg_pool2d(x, 16).flatten(1)  # (N, 256 C)
    cells = F.normalize(cells - cells.mean(dim=1, keepdim=True))
    return _linked(cells.cpu().numpy(), number(row.tobytes() for row in x.cpu().numpy()), similarity)


def near_texts(texts: Sequence[str], *, similarity: float = 1.0) -> Tensor:
    """Number the groups of like texts, (N,) int64; letters and digits alone count, and their case does not.

    Texts whose sets of three-character pieces have a cosine of at least `similarity` are linked (shingles: Broder 1997).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    def pieces(text: str) -> list[str]:
        return [text[i : i + 3] for i in range(max(1, len(text) - 2))]

    plain = ["".join(filter(str.isalnum, text.casefold())) for text in texts]
    return _linked(TfidfVectorizer(analyzer=pieces, use_idf=False, binary=True).fit_transform(plain), number(plain), similarity)


def deduplicate(data: Rows, groups: Tensor) -> tuple[Rows, Report]:
    """Keep the first row of each group."""
    sizes = groups.bincount()
    kept = torch.zeros(len(groups), dtype=torch.bool)
    kept[np.unique(groups, return_index=True)[1]] = True
    details = {"groups with copies": int((sizes > 1).sum()), "largest": int(sizes.max())}
    return _take(data, kept), Report("deduplicate", len(groups), len(sizes), details)


def normalise(data: Split, *, mean: float | None = None, deviation: float | None = None) -> tuple[Split, Report]:
    """Give the values mean 0 and deviation 1, or use another set's mean and deviation: a test set gets the training set's."""
    mean = data.x.double().mean().item() if mean is None else mean
    deviation = data.x.double().std().item() if deviation is None else deviation
    if not deviation > 0:
        raise ValueError(f"the deviation must be larger than 0, got {deviation}: do the examples differ at all?")
    report = Report("normalise", len(data.x), len(data.x), {"mean": mean, "deviation": deviation})
    return Split((data.x - mean) / deviation, data.y), report


def augment(data: Split, noise: Noise, *, copies: int = 1, pixels: int = 2) -> tuple[Split, Report]:
    """Add copies of every picture, each moved by at most `pixels`. For training sets: a test set is left as it is."""
    moved = [shift(data.x, noise, pixels=pixels) for _ in range(copies)]
    more = Split(torch.cat([data.x, *moved]), data.y.repeat(copies + 1))
    return more, Report("augment", len(data.x), len(more.x), {"copies": copies, "pixels": pixels})


def split(data: Rows, groups: Tensor, noise: Noise, *, share: float = 0.1) -> tuple[Rows, Rows, Report]:
    """Divide at random into training and test rows, whole groups on either side, so that no copy leaks.

    Groups are drawn for the test while they fit into `share` of the rows. Raises ValueError if not one does.
    """
    sizes = groups.bincount()
    drawn = noise.permutation(len(sizes))
    test = torch.isin(groups, drawn[sizes[drawn].cumsum(0) <= share * len(groups)])
    if not test.any() or test.all():
        raise ValueError(f"a share of {share} leaves one side empty: the {len(sizes)} groups have up to {sizes.max()} rows")
    report = Report("split", len(groups), int((~test).sum()), {"test rows": int(test.sum()), "groups": len(sizes)})
    return _take(data, ~test), _take(data, test), report


def _take(data: Rows, rows: Tensor) -> Rows:
    if isinstance(data, Split):
        return Split(data.x[rows], data.y[rows])
    return [text for text, taken in zip(data, rows.tolist(), strict=True) if taken]


def _linked(rows: Any, exact: Tensor, similarity: float) -> Tensor:
    """Link rows of length 1 (a matrix, dense or sparse) by their inner products; of exact copies the first stands for all."""
    if similarity >= 1:
        return exact
    rows = rows[np.unique(exact, return_index=True)[1]]
    N, block = rows.shape[0], 1_024
    pairs = [(rows[i : i + block] @ rows[i:].T >= similarity).nonzero() for i in range(0, N, block)]  # (≤ block, N − i) each
    near = np.concatenate([np.stack(pair) + i * block for i, pair in enumerate(pairs)], axis=1)  # (2, links)
    graph = coo_array((np.ones(near.shape[1]), near), shape=(N, N))
    return number(torch.from_numpy(connected_components(graph, directed=False)[1])[exact].tolist())
