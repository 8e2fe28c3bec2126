"""Metrics: how good are the samples, and how tight the bounds.

Feature-based scores (FID, KID) compare two sets of pictures through the features of a network that knows digits. Here
that network is the course's own small classifier, so the values cannot be compared with published ones: read them
against the floor (real against real) and against the baselines beside them.

N pictures, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from genai_lib.models.vae import VAE
from genai_lib.noise import Noise
from genai_lib.objectives import elbo, iwae_bound, next_token_nll

# ---------------------------------------------------------------- features


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, *, batch_size: int = 500) -> Tensor:
    """Apply a function to rows of x, a batch at a time, without gradients, and join the results."""
    return torch.cat([function(x[i : i + batch_size]) for i in range(0, len(x), batch_size)])


class Statistics(NamedTuple):
    """Mean (F,) and covariance (F, F) of features, float64: all that FID looks at."""

    mean: Tensor
    covariance: Tensor


def statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features (N, F), in float64.

    Raises
    ------
    ValueError
        If there are not more pictures than features: the covariance would be singular and the distance meaningless.
    """
    N, F = features.shape
    if N <= F:
        raise ValueError(f"{N} pictures are too few for {F} features: FID needs many more pictures than features")
    features = features.double()
    return Statistics(features.mean(dim=0), torch.cov(features.T).view(F, F))


# ---------------------------------------------------------------- distances between sets of pictures


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Fréchet distance between two Gaussians: ‖μa − μb‖² + tr(Σa + Σb − 2 (Σa Σb)^½).

    The trace of the root is the sum of the roots of the eigenvalues of Σa^½ Σb Σa^½, which is symmetric: no complex
    numbers arise.

    Source: Dowson & Landau 1982; Heusel et al. 2017, eq. 6.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # Σa^½
    cross = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(distance.item(), 0.0)


def fid(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the features (N, F) of two sets of pictures.

    0 when mean and covariance agree; biased upwards for small N.

    Source: Heusel et al. 2017.
    """
    return frechet_distance(statistics(a), statistics(b))


def kid(a: Tensor, b: Tensor) -> float:
    """Kernel distance: the unbiased squared MMD of two sets of features (N, F), kernel (x·y / F + 1)³.

    Unlike FID it has no bias for small N, so it may come out slightly below 0 when the sets agree.

    Source: Bińkowski et al. 2018, eq. 4 and §4.
    """
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"KID needs at least two pictures on each side, got {len(a)} and {len(b)}")
    a, b = a.double(), b.double()
    m, n, F = len(a), len(b), a.shape[1]

    def total(x: Tensor, y: Tensor) -> Tensor:  # Σ k(x_i, y_j), some rows at a time: the whole table would fill the memory
        return torch.stack([((rows @ y.T).div_(F).add_(1) ** 3).sum() for rows in x.split(250)]).sum()

    def diagonal(x: Tensor) -> Tensor:  # Σ k(x_i, x_i)
        return (x.square().sum(dim=1) / F + 1).pow(3).sum()

    within_a = (total(a, a) - diagonal(a)) / (m * (m - 1))
    within_b = (total(b, b) - diagonal(b)) / (n * (n - 1))
    return (within_a + within_b - 2 * total(a, b) / (m * n)).item()


# ---------------------------------------------------------------- faithful, diverse, new


def balls(centres: Tensor, points: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    """Draw an open ball around each centre (N, F), as far as its k-th nearest fellow, and count the points (M, F) inside.

    Returns
    -------
    (M,) number of balls that hold each point, and (N,) whether each ball holds any point.

    Raises
    ------
    ValueError
        If there are not more than k centres.
    """
    if len(centres) <= k:
        raise ValueError(f"each of {len(centres)} pictures needs {k} neighbours: give more pictures or a smaller k")
    middle = centres.double().mean(dim=0)  # distances from here, in float64: nothing is lost where features are far from 0
    centres, points = centres.double() - middle, points.double() - middle
    hits, held = torch.zeros(len(points), dtype=torch.int64, device=points.device), []
    for rows in centres.split(500):  # 500 × N distances at a time
        near = torch.cdist(rows, centres).topk(k + 1, dim=1, largest=False).values  # the nearest is the centre itself
        inside = torch.cdist(rows, points) < near[:, -1:]  # (500, M)
        hits += inside.sum(dim=0)
        held.append(inside.any(dim=1))
    return hits, torch.cat(held)


class PrecisionRecall(NamedTuple):
    """Precision, the share of generated pictures that look real; recall, the share of real ones that could be generated."""

    precision: float
    recall: float


def precision_recall(real: Tensor, generated: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Share of generated features (M, F) within the balls of the real (N, F), and the other way round.

    One outlier among the real pictures has a huge ball and forgives much: `density_coverage` is the remedy.

    Source: Kynkäänniemi et al. 2019, eq. 1–2.
    """
    shares = [(balls(a, b, k=k)[0] > 0).double().mean().item() for a, b in ((real, generated), (generated, real))]
    return PrecisionRecall(*shares)


class DensityCoverage(NamedTuple):
    """Density, 1 for fresh real pictures, more in a crowd; coverage, the share of real ones with a generated neighbour."""

    density: float
    coverage: float


def density_coverage(real: Tensor, generated: Tensor, *, k: int = 5) -> DensityCoverage:
    """How many of the real balls (N, F) hold a generated point (M, F), over k; and how many balls hold any.

    Source: Naeem et al. 2020, §3.
    """
    hits, held = balls(real, generated, k=k)
    return DensityCoverage(hits.double().mean().item() / k, held.double().mean().item())


def nearest(x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of x (N, …) the Euclidean distance to its nearest row of `others` (M, …), and which: (N,) and (N,)."""
    middle = others.flatten(1).mean(dim=0)
    x, others = x.flatten(1) - middle, others.flatten(1) - middle
    found = torch.cat([torch.cdist(rows, others).argmin(dim=1) for rows in x.split(500)])
    parts = zip(x.split(500), found.split(500), strict=True)
    return torch.cat([(rows - others[i]).norm(dim=1) for rows, i in parts]), found  # measured again: a copy is at 0 exactly


class Memorisation(NamedTuple):
    """Distances to the nearest training picture, from generated (M,) and from real test pictures (N,), and two verdicts.

    `closer` is the chance that a generated picture lies closer than a test picture: 1/2 for new pictures, 1 for copies.
    `copies` is the share of generated pictures closer than all but 1 % of the test pictures: 0.01 for new ones.
    """

    generated: Tensor
    test: Tensor
    closer: float
    copies: float


def memorisation(generated: Tensor, train: Tensor, test: Tensor) -> Memorisation:
    """Is the generator closer to its training pictures than fresh real pictures are? Sets of pixels or features (·, …).

    A distance alone says nothing: digits resemble each other. The reference is real pictures that the generator never saw.

    Source: Meehan, Chaudhuri & Dasgupta 2020 (`closer` is their Mann–Whitney statistic, as a probability).
    """
    d, reference = nearest(generated, train)[0], nearest(test, train)[0]
    ordered = reference.sort().values
    nearer, as_near = torch.searchsorted(ordered, d), torch.searchsorted(ordered, d, right=True)  # (M,) of the test pictures
    closer = 1 - (nearer + as_near).double().mean().item() / (2 * len(test))  # a tie counts half
    return Memorisation(d, reference, closer, (nearer < 0.01 * len(test)).double().mean().item())


def vendi_score(x: Tensor) -> float:
    """Effective number of different rows of x (N, …): 1 if all point one way, N if all are orthogonal, never more than wide.

    It is e to the entropy of the eigenvalues of the table of cosines over N. Give pixels, or features with far more numbers
    than classes. The mean distance between pairs would be blind to collapse within a class: one digit of each class,
    repeated, has 94 % of the test digits' mean distance; its score is 7, theirs 24.

    Source: Friedman & Dieng 2023, definition 3.1.
    """
    unit = nn.functional.normalize(x.flatten(1).double(), dim=1)  # (N, F)
    values = torch.linalg.eigvalsh(unit.T @ unit / len(x)).clamp(min=0)  # (F,): those of the (N, N) table that are not 0
    return torch.special.entr(values).sum().exp().item()


# ---------------------------------------------------------------- bounds, accuracy


@torch.no_grad()
def mean_elbo(model: VAE, x: Tensor, *, seed: int = 0, batch_size: int = 1000) -> float:
    """Mean ELBO over all pictures x, one draw of z each: nats per example."""
    batches = range(0, len(x), batch_size)
    total = sum(elbo(model, x[i : i + batch_size], Noise(seed, i, device=x.device)).elbo.sum().item() for i in batches)
    return total / len(x)


@torch.no_grad()
def mean_iwae_bound(model: VAE, x: Tensor, *, k: int, seed: int = 0, batch_size: int = 100) -> float:
    """Mean importance-weighted bound over all pictures x with k draws of z each: nats per example."""
    batches = range(0, len(x), batch_size)
    total = sum(
        iwae_bound(model, x[i : i + batch_size], Noise(seed, i, device=x.device), k=k).sum().item() for i in batches
    )
    return total / len(x)


def bernoulli_entropy(x: Tensor) -> float:
    """Smallest cross-entropy any model can reach on grey pixels x (N, …): their own entropy, nats per example."""
    return (torch.special.entr(x) + torch.special.entr(1 - x)).flatten(1).sum(dim=1).double().mean().item()


def accuracy(classifier: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Share of pictures x whose most likely class is y."""
    return (in_batches(classifier, x).argmax(dim=1) == y).double().mean().item()


def recall_at(similarity: Tensor, right: Tensor, *, k: int) -> float:
    """Share of questions (rows of similarity (N, M)) with a right answer, (N, M) bool, among the k most similar.

    Chance finds a single right answer in k / M of the questions, and more where several are right.
    """
    return right.gather(1, similarity.topk(k, dim=1).indices).any(dim=1).double().mean().item()


def psnr(x: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio −10 log₁₀(mean squared error) of pixels in [0, 1]: (B,) decibels.

    It needs a reference: right for a reconstruction, undefined for a sample.
    """
    return -10 * (x - reference).square().flatten(1).mean(dim=1).log10()


def ssim(x: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of pixels (B, C, H, W) in [0, 1], at most 1: means, contrasts and patterns of small windows.

    It needs a reference, as `psnr` does, and 11 pixels each way. Source: Wang et al. 2004, eq. 13, and their settings.
    """
    from skimage.metrics import structural_similarity  # a second to import: only who asks waits

    pairs = zip(x.cpu().numpy(), reference.cpu().numpy(), strict=True)
    settings = {"channel_axis": 0, "data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    return torch.tensor([structural_similarity(a, b, **settings) for a, b in pairs]).to(x)


def bits_per_dimension(nll: Tensor, x: Tensor) -> Tensor:
    """−log p(x) (B,) in nats as bits for each number in x (B, …): 8 for grey pixels of which nothing is known."""
    return nll / (x[0].numel() * math.log(2))


class Detection(NamedTuple):
    """A discriminator's accuracy; and precision, recall and F1 of its verdict "real". Shares from 0 to 1."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def detection(real_logits: Tensor, fake_logits: Tensor) -> Detection:
    """Score a discriminator that says "real" where its logit is above 0.

    About 1/2 is what a *perfect* generator or a *useless* discriminator leads to: the scores cannot tell one from the other.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    truth = torch.cat([torch.ones_like(real_logits), torch.zeros_like(fake_logits)]).cpu() > 0
    said = torch.cat([real_logits, fake_logits]).cpu() > 0
    scores = precision_recall_fscore_support(truth, said, average="binary", zero_division=0.0)[:3]
    return Detection(float(accuracy_score(truth, said)), *map(float, scores))


# ---------------------------------------------------------------- text


def text_nll(model: Callable[[Tensor], Tensor], tokens: Tensor, *, context: int) -> float:
    """Total −log p of all tokens (N,) but the first, in nats; each is predicted once, from 1 to `context` before it."""
    whole = (len(tokens) - 1) // context * context  # windows that share their ends, then what is left
    rows = tokens[: whole + 1].unfold(0, context + 1, context) if whole else tokens.new_zeros(0, 2)
    parts = [*rows.split(100), tokens[None, whole:]]  # (100, context + 1) each, (1, …)
    with torch.no_grad():
        return sum(next_token_nll(model, part).double().sum().item() for part in parts if part.numel() > 1)


def bits_per_character(nll: float, characters: int) -> float:
    """A text's total −log p (nats) in bits per character: comparable between vocabularies, as perplexity is not."""
    return nll / (characters * math.log(2))


def perplexity(nll: float, tokens: int) -> float:
    """e to the nats per token: the number of equally likely tokens among which the choice would be as hard."""
    return math.exp(nll / tokens)


# ---------------------------------------------------------------- how sure?


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float


def jackknife(metric: Callable[..., float], *sets: Tensor, groups: int = 100) -> Interval:
    """Interval of any metric of sets of rows, such as `fid` or `kid` of two: the estimate ± 1.96 standard errors.

    Each set's rows are cut into groups in their order, which should be random, and each group is left out once. How much
    that moves the metric tells the standard error; the sets' variances add. A bootstrap would not do: a picture drawn twice
    makes both sets less alike, so that all its FIDs lie above the estimate. For a mean, `bootstrap` is right.

    Parameters
    ----------
    metric : function of the sets
        It is asked 1 + groups · len(sets) times. Where it needs only sums over rows, give sums over groups as the rows.
    sets : (N, …) each
        N may differ, but not fall below `groups`. A set that is given to `metric` in another way counts as known exactly.
    groups : int
        2 or more: too few leave the standard error itself unsure.

    Raises
    ------
    ValueError
        If a set has fewer rows than groups, or there are fewer than two groups.

    Source: Efron & Stein 1981.
    """
    fewest = min(map(len, sets))
    if not 2 <= groups <= fewest:
        raise ValueError(f"groups must lie between 2 and {fewest}, the rows of the smallest set, got {groups}")
    variance = 0.0
    for i, x in enumerate(sets):
        parts = x.tensor_split(groups)
        others = (torch.cat(parts[:g] + parts[g + 1 :]) for g in range(groups))
        variance += (groups - 1) * float(np.var([metric(*sets[:i], rest, *sets[i + 1 :]) for rest in others]))
    estimate, half = metric(*sets), 1.96 * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half)


def bootstrap(values: Tensor | list[float], *, seed: int = 0, draws: int = 10_000) -> Interval:
    """Mean of values (N,) with the 2.5 % and 97.5 % quantiles of the means of resampled values (Efron 1979).

    Give one value per *independent* unit: per seed when runs are compared, per picture when one model is judged.
    """
    x = torch.as_tensor(values, dtype=torch.float64)
    if len(x) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(x)}")
    noise, rows = Noise(seed), max(1, 1_000_000 // len(x))  # a million numbers at a time
    parts = [min(rows, draws - i) for i in range(0, draws, rows)]
    means = torch.cat([x[noise.integers(len(x), part, len(x))].mean(dim=1) for part in parts])
    low, high = np.quantile(means.numpy(), [0.025, 0.975])
    return Interval(x.mean().item(), float(low), float(high))
