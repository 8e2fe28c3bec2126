from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from genai_lib import Noise, metrics
from genai_lib.data import load
from genai_lib.models.vae import mlp_vae
from genai_lib.objectives import elbo, iwae_bound

SEEDS = pytest.mark.parametrize("seed", range(20))
DTYPES = st.sampled_from([torch.bfloat16, torch.float32, torch.float64])


class AsItIs(nn.Module):
    """For torchmetrics: the numbers it is given are already features."""

    num_features = 7

    def forward(self, x):
        return x


def features(seed, n, width=7):
    """Correlated, shifted features, float64."""
    noise = Noise(seed)
    return noise.normal(n, width).double() @ noise.normal(width, width).double() + noise.normal(1, width)


# ---------------------------------------------------------------- FID


@SEEDS
def test_statistics_agree_with_numpy(seed):
    x = features(seed, 101)
    found = metrics.statistics(x.float())
    assert found.mean.dtype == found.covariance.dtype == torch.float64
    np.testing.assert_allclose(found.mean.numpy(), x.float().double().numpy().mean(axis=0))
    np.testing.assert_allclose(found.covariance.numpy(), np.cov(x.float().double().numpy(), rowvar=False))


@SEEDS
@pytest.mark.parametrize("width", [1, 7, 31])
def test_the_frechet_distance_agrees_with_scipys_matrix_root(seed, width):
    a, b = (metrics.statistics(features(2 * seed + i, 211, width)) for i in (0, 1))
    root = sqrtm((a.covariance @ b.covariance).numpy())
    root = root.item().real if width == 1 else np.trace(root).real
    theirs = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root
    assert metrics.frechet_distance(a, b) == pytest.approx(theirs.item(), rel=1e-7)


@SEEDS
def test_fid_agrees_with_torchmetrics(seed):
    a, b = features(2 * seed, 101), features(2 * seed + 1, 211)
    theirs = FrechetInceptionDistance(feature=AsItIs()).set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert metrics.fid(a, b) == pytest.approx(theirs.compute().item(), rel=1e-6)


@SEEDS
def test_fid_by_closed_form(seed):
    x, shift = features(seed, 101), 3 * Noise(seed, 1).normal(1, 7).double()
    assert metrics.fid(x, x) == pytest.approx(0, abs=1e-7)
    assert metrics.fid(x, x + shift) == pytest.approx(shift.square().sum().item(), rel=1e-9)  # ‖Δμ‖²
    centred = x - x.mean(dim=0)
    trace = torch.cov(x.T).trace().item()
    assert metrics.fid(centred, 3 * centred) == pytest.approx(4 * trace, rel=1e-7)  # (1 − 3)² tr Σ
    y = features(seed + 100, 211)
    assert metrics.fid(x, y) == pytest.approx(metrics.fid(y, x), rel=1e-9)
    rotation, _ = torch.linalg.qr(Noise(seed, 2).normal(7, 7).double())
    assert metrics.fid(x @ rotation, y @ rotation) == pytest.approx(metrics.fid(x, y), rel=1e-7)
    order = Noise(seed, 3).permutation(101)
    assert metrics.fid(x[order], y) == pytest.approx(metrics.fid(x, y), rel=1e-9)


def test_fid_survives_features_that_never_vary():
    x, y = features(0, 101), features(1, 101)
    x[:, 3] = y[:, 3] = 0.0  # a dead unit: the covariance is singular
    expected = metrics.fid(x[:, [0, 1, 2, 4, 5, 6]], y[:, [0, 1, 2, 4, 5, 6]])
    assert metrics.fid(x, y) == pytest.approx(expected, rel=1e-6)
    assert metrics.fid(x, x) >= 0


def test_fid_is_biased_upwards_for_small_samples():
    small = np.mean([metrics.fid(features(0, 40_000)[:53], features(0, 40_000)[i : i + 53]) for i in range(53, 3_000, 53)])
    large = metrics.fid(features(0, 40_000)[:20_000], features(0, 40_000)[20_000:])
    assert small > 20 * large > 0


@pytest.mark.parametrize("n, width", [(7, 7), (3, 7), (64, 64)])
def test_too_few_pictures_are_refused(n, width):
    with pytest.raises(ValueError) as error:
        metrics.statistics(torch.zeros(n, width))
    assert str(error.value) == (
        f"{n} pictures are too few for {width} features: FID needs many more pictures than features"
    )


# ---------------------------------------------------------------- KID


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")  # torchmetrics' own
@SEEDS
def test_kid_agrees_with_torchmetrics(seed):
    a, b = features(2 * seed, 101), features(2 * seed + 1, 101)
    theirs = KernelInceptionDistance(feature=AsItIs(), subsets=1, subset_size=101).set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert metrics.kid(a, b) == pytest.approx(theirs.compute()[0].item(), rel=1e-6)


@SEEDS
def test_kid_by_its_definition(seed):
    a, b = features(seed, 5), features(seed + 50, 3)

    def kernel(x, y):
        return (x @ y / 7 + 1) ** 3

    within_a = np.mean([kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(3) for j in range(3) if i != j])
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert metrics.kid(a, b) == pytest.approx(within_a + within_b - 2 * across, rel=1e-9, abs=1e-9)
    assert metrics.kid(b, a) == pytest.approx(metrics.kid(a, b), rel=1e-9, abs=1e-9)


def test_kid_has_no_bias_for_small_samples():
    """Over 400 pairs of small samples from one distribution it averages to 0, within five standard errors."""
    values = np.array([metrics.kid(Noise(0, i, 0).normal(11, 7), Noise(0, i, 1).normal(13, 7)) for i in range(400)])
    assert abs(values.mean()) < 5 * values.std() / math.sqrt(400)
    assert values.min() < 0 < values.max()


@pytest.mark.parametrize("m, n", [(1, 7), (7, 1), (0, 7)])
def test_kid_of_single_pictures_is_refused(m, n):
    with pytest.raises(ValueError) as error:
        metrics.kid(torch.zeros(m, 3), torch.zeros(n, 3))
    assert str(error.value) == f"KID needs at least two pictures on each side, got {m} and {n}"


@given(m=st.sampled_from([11, 53]), n=st.sampled_from([13, 47]), seed=st.integers(0, 100), dtype=DTYPES)
def test_sets_are_compared_in_float64_whatever_their_features_come_in(m, n, seed, dtype):
    """The same numbers in another type score the same; and a change far below float32's digits shows."""
    a, b = (50 + features(2 * seed + i, size).to(dtype) for i, size in enumerate((m, n)))
    moved = a.double() + 1e-9 * features(seed, m)
    for metric in (metrics.fid, metrics.kid, lambda a, b: metrics.vendi_score(a)):
        assert metric(a, b) == metric(a.double(), b.double()) != metric(moved, b.double())
    for metric in (metrics.precision_recall, metrics.density_coverage):  # they count
        assert metric(a, b) == metric(a.double(), b.double())


# ---------------------------------------------------------------- bounds, accuracy, entropy, PSNR


@given(n=st.integers(1, 31), batch_size=st.integers(1, 37), dtype=DTYPES)
def test_in_batches_changes_nothing(n, batch_size, dtype):
    x = Noise(0).normal(n, 3).to(dtype).requires_grad_()
    seen = []

    def double(rows):
        seen.append(len(rows))
        return 2 * rows

    joined = metrics.in_batches(double, x, batch_size=batch_size)
    assert torch.equal(joined, 2 * x)
    assert joined.dtype == dtype
    assert not joined.requires_grad
    assert sum(seen) == n
    assert max(seen) <= batch_size


@pytest.mark.parametrize("n", [7, 10, 11])
def test_mean_bounds_are_means_over_all_pictures(n):
    torch.manual_seed(0)
    model, x = mlp_vae(latent=3, width=11), Noise(0).uniform(n, 1, 28, 28)
    parts = range(0, n, 5)
    each = torch.cat([elbo(model, x[i : i + 5], Noise(4, i)).elbo for i in parts])
    assert len(each) == n
    assert metrics.mean_elbo(model, x, seed=4, batch_size=5) == pytest.approx(each.mean().item(), rel=1e-6)
    each = torch.cat([iwae_bound(model, x[i : i + 5], Noise(4, i), k=7) for i in parts])
    assert metrics.mean_iwae_bound(model, x, k=7, seed=4, batch_size=5) == pytest.approx(each.mean().item(), rel=1e-6)


def test_mean_bounds_repeat_and_are_ordered():
    torch.manual_seed(0)
    model, x = mlp_vae(latent=3, width=11), Noise(0).uniform(211, 1, 28, 28)
    assert metrics.mean_elbo(model, x) == metrics.mean_elbo(model, x)
    assert metrics.mean_elbo(model, x) != metrics.mean_elbo(model, x, seed=1)
    assert metrics.mean_elbo(model, x) < metrics.mean_iwae_bound(model, x, k=50)


@SEEDS
def test_accuracy_by_hand(seed):
    logits, y = Noise(seed, 0).normal(101, 10), Noise(seed, 1).integers(10, 101)
    by_hand = sum(int(row.argmax() == label) for row, label in zip(logits, y, strict=True)) / 101
    assert metrics.accuracy(nn.Identity(), logits, y) == by_hand
    assert metrics.accuracy(nn.Identity(), nn.functional.one_hot(y, 10).float(), y) == 1


def test_bernoulli_entropy_by_hand():
    x = torch.tensor([[0.0, 1.0, 0.5], [0.25, 0.25, 0.0]])
    quarter = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert metrics.bernoulli_entropy(x) == pytest.approx((math.log(2) + 2 * quarter) / 2, rel=1e-6)
    assert metrics.bernoulli_entropy((Noise(0).uniform(7, 1, 5, 3) < 0.5).float()) == 0


def test_the_pixels_of_mnist_have_45_and_a_half_nats():
    x = load("mnist", "test").x
    assert round(metrics.bernoulli_entropy(x), 1) == 45.5
    p = x.double().numpy()
    grey = p[(p > 0) & (p < 1)]
    by_hand = -(grey * np.log(grey) + (1 - grey) * np.log(1 - grey)).sum() / len(x)
    assert metrics.bernoulli_entropy(x) == pytest.approx(by_hand, rel=1e-5)


@SEEDS
def test_psnr_agrees_with_scikit_image(seed):
    x, reference = Noise(seed, 0).uniform(7, 3, 11, 5), Noise(seed, 1).uniform(7, 3, 11, 5)
    theirs = [peak_signal_noise_ratio(r.numpy(), p.numpy(), data_range=1) for r, p in zip(reference, x, strict=True)]
    np.testing.assert_allclose(metrics.psnr(x, reference).numpy(), theirs, rtol=1e-5)


def test_psnr_of_a_tenth_is_twenty_decibels():
    decibels = metrics.psnr(torch.full((3, 1, 5, 5), 0.6), torch.full((3, 1, 5, 5), 0.5))
    torch.testing.assert_close(decibels, torch.full((3,), 20.0))
    assert metrics.psnr(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item() == math.inf


# ---------------------------------------------------------------- intervals


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100():
    """300 samples of 40 from N(2, 1). The percentile bootstrap is a little short at this size: 94 % is expected."""
    intervals = [metrics.bootstrap(2 + Noise(0, i).normal(40), seed=i, draws=1_000) for i in range(300)]
    covered = np.mean([interval.low < 2 < interval.high for interval in intervals])
    assert 0.89 < covered < 0.98  # within four standard errors (0.014)
    width = np.mean([interval.high - interval.low for interval in intervals])
    assert width == pytest.approx(2 * 1.96 / math.sqrt(40), rel=0.05)


@SEEDS
def test_the_interval_agrees_with_the_normal_one_for_many_values(seed):
    x = Noise(seed).normal(1_009)
    estimate, low, high = metrics.bootstrap(x, draws=2_000)
    assert estimate == pytest.approx(x.double().mean().item())
    half = 1.96 * x.std().item() / math.sqrt(1_009)
    assert low == pytest.approx(estimate - half, abs=0.15 * half)
    assert high == pytest.approx(estimate + half, abs=0.15 * half)


def test_intervals_repeat_and_take_lists():
    assert metrics.bootstrap([1.0, 2.0, 4.0]) == metrics.bootstrap([1.0, 2.0, 4.0])
    assert metrics.bootstrap([3.0, 3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_an_interval_from_nothing_is_refused(values):
    with pytest.raises(ValueError) as error:
        metrics.bootstrap(values)
    assert str(error.value) == f"an interval needs at least two values, got {len(values)}"


def fid_of_gaussians(shift, width):
    """The Fréchet distance of N(0, I) and N(shift, I): ‖Δμ‖²."""
    return width * shift**2


def kid_of_gaussians(shift, width):
    """Their kernel distance, from the moments of s = x·y: E (s / F + 1)³ of x ~ N(μ, I) and y ~ N(ν, I)."""

    def expected(mu, nu):
        m, n, b = mu**2 * width, nu**2 * width, mu * nu * width  # ‖μ‖², ‖ν‖², μ·ν = E s
        second, third = width + m + n + b**2, b**3 + 3 * b * (m + n + width + 2)  # E s², E s³
        return third / width**3 + 3 * second / width**2 + 3 * b / width + 1

    return expected(0, 0) + expected(shift, shift) - 2 * expected(0, shift)


@pytest.mark.parametrize("metric, truth", [(metrics.fid, fid_of_gaussians), (metrics.kid, kid_of_gaussians)])
def test_an_interval_of_a_distance_covers_the_truth_about_95_times_in_100(metric, truth):
    """120 pairs of sets. The error from 20 groups is itself unsure (a t with 19 degrees of freedom): 93.5 % is expected."""
    pairs = ((Noise(0, i).normal(211, 3), 1 + Noise(1, i).normal(307, 3)) for i in range(120))
    found = [metrics.jackknife(metric, *pair, groups=20) for pair in pairs]
    covered = np.mean([interval.low < truth(1, 3) < interval.high for interval in found])
    assert 0.84 < covered < 1  # within four standard errors (0.0225)
    told = np.mean([(interval.high - interval.low) / 3.92 for interval in found])
    assert told == pytest.approx(np.std([interval.estimate for interval in found]), rel=0.2)  # three of its own errors


@SEEDS
@pytest.mark.parametrize("metric", [metrics.fid, metrics.kid])
def test_the_jackknife_of_two_sets_by_hand(seed, metric):
    a, b = features(2 * seed, 101), features(2 * seed + 1, 211)
    variance = 0.0
    for x, judge in ((a, lambda rest: metric(rest, b)), (b, lambda rest: metric(a, rest))):
        size, longer = divmod(len(x), 7)  # stretches as equal as can be: the first are longer by one
        group = torch.arange(7).repeat_interleave(torch.tensor([size + (g < longer) for g in range(7)]))
        values = [judge(x[group != g]) for g in range(7)]
        variance += 6 / 7 * sum((value - sum(values) / 7) ** 2 for value in values)
    half = 1.96 * math.sqrt(variance)
    expected = (metric(a, b), metric(a, b) - half, metric(a, b) + half)
    assert metrics.jackknife(metric, a, b, groups=7) == pytest.approx(expected, rel=1e-9)


@SEEDS
def test_the_jackknife_of_means_is_the_textbooks_standard_error(seed):
    """Every row a group of its own: s / √N for one set, and variances that add for two (Welch)."""
    x, y = Noise(seed).normal(53).double(), Noise(seed, 1).normal(31).double()
    estimate, low, high = metrics.jackknife(lambda x: x.mean().item(), x, groups=53)
    half = 1.96 * x.std().item() / math.sqrt(53)
    assert (estimate, low, high) == pytest.approx((x.mean().item(), x.mean().item() - half, x.mean().item() + half))
    estimate, low, high = metrics.jackknife(lambda x, y: (x.mean() - 2 * y.mean()).item(), x[:31], y, groups=31)
    half = 1.96 * math.sqrt((x[:31].var() + 4 * y.var()).item() / 31)
    assert (high - estimate, estimate - low) == pytest.approx((half, half))
    assert estimate == pytest.approx((x[:31].mean() - 2 * y.mean()).item())


def test_a_hundred_groups_unless_told_and_each_left_out_once():
    asked = []
    found = metrics.jackknife(lambda x, y: asked.append((len(x), len(y))) or 3.0, torch.zeros(200, 5), torch.zeros(101))
    assert found == (3.0, 3.0, 3.0)
    assert sorted(asked) == sorted([(198, 101)] * 100 + [(200, 99)] + [(200, 100)] * 99 + [(200, 101)])


@pytest.mark.parametrize("groups", [-1, 0, 1, 8, 100])
def test_groups_that_cannot_be_left_out_are_refused(groups):
    with pytest.raises(ValueError) as error:
        metrics.jackknife(metrics.kid, torch.zeros(11, 3), torch.zeros(7, 3), groups=groups)
    assert str(error.value) == f"groups must lie between 2 and 7, the rows of the smallest set, got {groups}"


# ---------------------------------------------------------------- edges and defaults


def test_two_pictures_a_side_are_enough_for_kid():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [3.0, 0.0]])

    def kernel(u, v):
        return (float(u @ v) / 2 + 1) ** 3

    across = sum(kernel(u, v) for u in a for v in b) / 4
    assert metrics.kid(a, b) == pytest.approx(kernel(a[0], a[1]) + kernel(b[0], b[1]) - 2 * across)


@pytest.mark.parametrize("n", [7, 1_999])
def test_an_interval_rests_on_as_many_resamplings_as_are_asked_for(n, monkeypatch):
    counted, quantile = [], metrics.np.quantile
    monkeypatch.setattr(metrics.np, "quantile", lambda means, at: counted.append(len(means)) or quantile(means, at))
    values = Noise(0).normal(n)
    first = metrics.bootstrap(values, seed=0, draws=1_234)
    assert counted == [1_234]
    assert metrics.bootstrap(values) == metrics.bootstrap(values, seed=0, draws=10_000) != first
