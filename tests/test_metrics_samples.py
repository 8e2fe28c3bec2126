"""Metrics of samples: faithful, diverse, new? And the likelihood and the resemblance of grey pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic, mannwhitneyu
from skimage.metrics import structural_similarity
from sklearn.neighbors import NearestNeighbors

from genai_lib import Noise, metrics
from genai_lib.data import load
from genai_lib.objectives import discretised_logistic_nll

SEEDS = pytest.mark.parametrize("seed", range(20))
F = 7


def cloud(seed, n, *key):
    return Noise(seed, *key).normal(n, F)


# ---------------------------------------------------------------- precision and recall, density and coverage


@SEEDS
@pytest.mark.parametrize("k", [1, 3, 5])
def test_balls_agree_with_scikit_learns_neighbours(seed, k):
    """More than one block of centres, so that the seams are tested too."""
    centres, points = cloud(seed, 511, 0).double(), 1.2 * cloud(seed, 211, 1).double()
    radius = NearestNeighbors(n_neighbors=k).fit(centres).kneighbors()[0][:, -1]  # without an argument: others only
    distance = np.linalg.norm(centres.numpy()[:, None] - points.numpy()[None], axis=2)
    inside = distance < radius[:, None]
    hits, held = metrics.balls(centres, points, k=k)
    np.testing.assert_array_equal(hits.numpy(), inside.sum(axis=0))
    np.testing.assert_array_equal(held.numpy(), inside.any(axis=1))
    density, coverage = metrics.density_coverage(centres, points, k=k)
    assert density == pytest.approx(inside.sum() / (k * 211), rel=1e-12)
    assert coverage == pytest.approx(inside.any(axis=1).mean(), rel=1e-12)
    back = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()[0][:, -1]
    precision, recall = metrics.precision_recall(centres, points, k=k)
    assert precision == pytest.approx(inside.any(axis=0).mean(), rel=1e-12)
    assert recall == pytest.approx((distance < back[None]).any(axis=1).mean(), rel=1e-12)


@SEEDS
@pytest.mark.parametrize("n", [11, 503, 1_009])
def test_a_set_against_itself_scores_one(seed, n):
    x = cloud(seed, n)
    assert metrics.precision_recall(x, x) == (1.0, 1.0)
    assert metrics.density_coverage(x, x) == (1.0, 1.0)


@SEEDS
def test_sets_far_apart_score_zero(seed):
    x, y = cloud(seed, 211, 0), cloud(seed, 101, 1) + 100
    assert metrics.precision_recall(x, y) == (0.0, 0.0)
    assert metrics.density_coverage(x, y) == (0.0, 0.0)


@SEEDS
def test_fresh_samples_of_one_distribution_score_as_theory_says(seed):
    """Density has mean 1; a ball of k neighbours stays empty with chance about 2^-k (Naeem et al. 2020, lemma 2)."""
    density, coverage = metrics.density_coverage(cloud(seed, 1_009, 0), cloud(seed, 1_009, 1))
    assert density == pytest.approx(1, abs=0.15)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.04)
    precision, recall = metrics.precision_recall(cloud(seed, 1_009, 0), cloud(seed, 1_009, 1))
    assert precision == pytest.approx(recall, abs=0.1)


@SEEDS
def test_a_generator_that_drops_half_the_modes_is_precise_and_recalls_half(seed):
    centres = torch.zeros(2, F)
    centres[1, 0] = 50.0
    real = cloud(seed, 1_010, 0) + centres[torch.arange(1_010) % 2]
    generated = cloud(seed, 1_009, 1)  # the first mode only
    precision, recall = metrics.precision_recall(real, generated)
    assert precision > 0.7
    assert 0.3 < recall <= 0.5
    density, coverage = metrics.density_coverage(real, generated)
    assert density > 0.8
    assert 0.4 < coverage <= 0.5
    precision, recall = metrics.precision_recall(generated, real)  # the other way round: one that invents a mode
    assert 0.3 < precision <= 0.5
    assert recall > 0.7


@SEEDS
def test_one_point_repeated_recalls_nothing(seed):
    real = cloud(seed, 211)
    precision, recall = metrics.precision_recall(real, real[:1].repeat(101, 1))
    assert (precision, recall) == (1.0, 0.0)
    assert metrics.density_coverage(real, real[:1].repeat(101, 1)).coverage < 0.1


@SEEDS
def test_an_outlier_deceives_precision_but_not_density(seed):
    """Overestimated manifolds, the example of Naeem et al. 2020, figure 3."""
    real = torch.cat([cloud(seed, 499, 0), torch.full((1, F), 100.0)])
    wrong = cloud(seed, 499, 1) + 30  # far from all real points but the outlier
    assert metrics.precision_recall(real, wrong).precision == 1
    assert metrics.density_coverage(real, wrong).density == pytest.approx(1 / 5)


@SEEDS
def test_scores_look_at_distances_only(seed):
    real, generated = cloud(seed, 211, 0).double(), cloud(seed, 101, 1).double() * 0.8
    rotation, _ = torch.linalg.qr(Noise(seed, 2).normal(F, F).double())
    order = Noise(seed, 3).permutation(211)
    for score in (metrics.precision_recall, metrics.density_coverage):
        expected = score(real, generated)
        assert score(real @ rotation, generated @ rotation) == pytest.approx(expected)
        assert score(3 * real + 1e4, 3 * generated + 1e4) == pytest.approx(expected)
        assert score(real[order], generated) == pytest.approx(expected)


def test_one_more_picture_than_neighbours_is_enough():
    hits, held = metrics.balls(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.25], [0.75], [-5.0]]), k=1)
    assert (hits.tolist(), held.tolist()) == ([2, 2, 0], [True, True])


@pytest.mark.parametrize("n, k", [(5, 5), (3, 5), (1, 1)])
def test_too_few_neighbours_are_refused(n, k):
    with pytest.raises(ValueError) as error:
        metrics.density_coverage(torch.zeros(n, F), torch.zeros(11, F), k=k)
    assert str(error.value) == f"each of {n} pictures needs {k} neighbours: give more pictures or a smaller k"


# ---------------------------------------------------------------- memory


@SEEDS
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e3 * torch.arange(F)], ids=["near", "far", "each column elsewhere"])
def test_nearest_agrees_with_scikit_learn(seed, offset):
    """Also in float32 and far from 0, where x·y has no digits left for the differences."""
    x, others = cloud(seed, 503, 0) + offset, cloud(seed, 211, 1) + offset
    distance, which = metrics.nearest(x, others)
    theirs = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(others.double()).kneighbors(x.double())[0][:, 0]
    np.testing.assert_allclose(distance.numpy(), theirs, rtol=1e-3)
    torch.testing.assert_close((x - others[which]).norm(dim=1), distance, rtol=1e-3, atol=0)


def test_a_copy_is_at_distance_zero_exactly():
    x = load("mnist", "test").x[:1_009]
    order = Noise(0).permutation(1_009)
    distance, which = metrics.nearest(x[order], x)
    assert (distance == 0).all()
    assert torch.equal(which, order)


@SEEDS
def test_new_pictures_are_no_closer_than_test_pictures(seed):
    train, test, new = (cloud(seed, n, key) for key, n in enumerate((1_009, 1_013, 1_019)))
    found = metrics.memorisation(new, train, test)
    assert (len(found.generated), len(found.test)) == (1_019, 1_013)
    assert found.closer == pytest.approx(0.5, abs=6 * math.sqrt(1 / 12 * (1 / 1_013 + 1 / 1_019)))
    assert found.copies == pytest.approx(0.01, abs=6 * math.sqrt(0.01 * 0.99 * 2 / 1_013))


@SEEDS
def test_the_verdict_agrees_with_the_mann_whitney_statistic(seed):
    train, test, near = cloud(seed, 101, 0), cloud(seed, 211, 1), 0.7 * cloud(seed, 503, 2)
    test, near = torch.cat([test, train[:5]]), torch.cat([near, train[:3]])  # ties, at 0
    found = metrics.memorisation(near, train, test)
    statistic = mannwhitneyu(found.test.numpy(), found.generated.numpy()).statistic
    assert found.closer == pytest.approx(statistic / (216 * 506), rel=1e-12)
    assert found.closer > 0.6


@SEEDS
def test_a_memoriser_is_caught_even_when_it_copies_one_picture_in_five(seed):
    train, test, new = (cloud(seed, n, key) for key, n in enumerate((1_009, 1_013, 800)))
    copier = metrics.memorisation(train[:503], train, test)
    assert (copier.closer, copier.copies) == (1.0, 1.0)
    blurred = metrics.memorisation(train[:503] + 0.01 * cloud(seed, 503, 3), train, test)
    assert (blurred.closer, blurred.copies) == (1.0, 1.0)
    fifth = metrics.memorisation(torch.cat([new, train[:200]]), train, test)
    assert fifth.copies == pytest.approx(0.2 + 0.8 * 0.01, abs=0.03)
    assert fifth.closer == pytest.approx(0.2 + 0.8 / 2, abs=0.06)
    apart = metrics.memorisation(new + 10, train, test)
    assert (apart.closer, apart.copies) == (0.0, 0.0)


def test_copies_are_those_among_the_closest_hundredth():
    """200 test pictures at distances 1, 2, … 200 from the one training picture: fewer than two of them may be closer."""
    test, generated = torch.arange(1.0, 201)[:, None], torch.tensor([[0.0], [0.5], [1.5], [2.5], [3.5], [300.0]])
    found = metrics.memorisation(generated, torch.zeros(1, 1), test)
    assert found.copies == 0.5  # 0, 0.5 and 1.5
    assert found.closer == pytest.approx((200 + 200 + 199 + 198 + 197 + 0) / (6 * 200))


# ---------------------------------------------------------------- diversity


@SEEDS
def test_the_vendi_score_by_its_definition(seed):
    x = cloud(seed, 53).double() + 1
    unit = x / x.norm(dim=1, keepdim=True)
    values = np.linalg.eigvalsh((unit @ unit.T).numpy() / 53)  # the (N, N) table itself
    values = values[values > 1e-12]
    assert metrics.vendi_score(x) == pytest.approx(math.exp(-(values * np.log(values)).sum()), rel=1e-9)
    order = Noise(seed, 1).permutation(53)
    assert metrics.vendi_score(3 * x[order]) == pytest.approx(metrics.vendi_score(x), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_the_vendi_score_counts(n):
    assert metrics.vendi_score(torch.eye(F)[:n]) == pytest.approx(n)  # all different
    assert metrics.vendi_score(torch.eye(F)[:n].repeat(11, 1)) == pytest.approx(n)  # repeated: no more different
    assert metrics.vendi_score(Noise(0).normal(1, 1, 3, 5).repeat(n, 1, 1, 1)) == pytest.approx(1)  # all the same


def test_collapse_within_a_class_lowers_the_vendi_score_and_hardly_the_mean_distance():
    """The reason for this score: ten digits repeated are nearly as far apart as all test digits, but not as diverse."""
    x, y = load("mnist", "test")
    collapsed = torch.cat([x[y == c][:1].repeat(200, 1, 1, 1) for c in range(10)])
    scores = [metrics.vendi_score(x), metrics.vendi_score(collapsed)]
    spread = [torch.cat([torch.cdist(rows, s).mean(dim=1) for rows in s.split(500)]).mean().item()
              for s in (x.flatten(1), collapsed.flatten(1))]  # fmt: skip
    assert [round(score) for score in scores] == [24, 7]
    assert round(spread[1] / spread[0], 2) == 0.94


# ---------------------------------------------------------------- the discriminator's scores


@SEEDS
def test_detection_by_counting(seed):
    real, fake = 0.5 + Noise(seed, 0).normal(211), Noise(seed, 1).normal(101) - 0.2
    hit, miss = (real > 0).sum().item(), (real <= 0).sum().item()
    false, right = (fake > 0).sum().item(), (fake <= 0).sum().item()
    found = metrics.detection(real, fake)
    assert found.accuracy == pytest.approx((hit + right) / 312)
    assert found.precision == pytest.approx(hit / (hit + false))
    assert found.recall == pytest.approx(hit / (hit + miss))
    assert found.f1 == pytest.approx(2 * hit / (2 * hit + false + miss))
    assert all(type(value) is float for value in found)


def test_detection_where_the_answer_is_known():
    sure = torch.full((7,), 5.0)
    assert metrics.detection(sure, -sure) == (1.0, 1.0, 1.0, 1.0)
    assert metrics.detection(-sure, sure) == (0.0, 0.0, 0.0, 0.0)
    assert metrics.detection(sure, sure) == (0.5, 0.5, 1.0, pytest.approx(2 / 3))  # says "real" to everything
    assert metrics.detection(-sure, -sure) == (0.5, 0.0, 0.0, 0.0)


def test_the_interval_of_an_accuracy_covers_the_truth_about_95_times_in_100():
    """A judge that is right with chance Φ(1), over 300 sets of 101 pictures; 94 % is expected at this size."""
    truth, covered = 0.5 * math.erfc(-1 / math.sqrt(2)), 0
    for i in range(300):
        logits = 1 + Noise(0, i).normal(101)
        estimate, low, high = metrics.bootstrap(logits > 0, seed=i, draws=1_000)
        assert estimate == pytest.approx(metrics.detection(logits, -logits).accuracy)
        covered += low <= truth <= high
    assert 0.88 < covered / 300 < 0.985


# ---------------------------------------------------------------- resemblance


@SEEDS
def test_ssim_agrees_with_scikit_image_channel_by_channel(seed):
    x = Noise(seed, 0).uniform(3, 2, 17, 13).double()
    reference = (x + 0.2 * Noise(seed, 1).normal(3, 2, 17, 13)).clamp(0, 1)
    found = metrics.ssim(x, reference)
    assert (found.shape, found.dtype) == ((3,), torch.float64)
    settings = {"data_range": 1, "win_size": 11, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i in range(3):
        each = [structural_similarity(x[i, c].numpy(), reference[i, c].numpy(), **settings) for c in range(2)]
        assert found[i].item() == pytest.approx(np.mean(each), rel=1e-9)


@SEEDS
def test_ssim_of_a_single_window_by_the_formula(seed):
    """Wang et al. 2004, eq. 13–16: weighted moments of 11 × 11 pixels, σ = 1.5."""
    x, y = Noise(seed, 0).uniform(1, 1, 11, 11).double(), Noise(seed, 1).uniform(1, 1, 11, 11).double()
    bell = (-torch.arange(-5, 6).double().square() / (2 * 1.5**2)).exp()
    weights = bell[:, None] * bell / bell.sum() ** 2
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy, both = ((weights * (a - ma) * (b - mb)).sum() for a, ma, b, mb in ((x, mx, x, mx), (y, my, y, my), (x, mx, y, my)))
    formula = (2 * mx * my + 0.01**2) * (2 * both + 0.03**2) / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))
    assert metrics.ssim(x, y).item() == pytest.approx(formula.item(), rel=1e-9)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    x = load("mnist", "test").x[:7]
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(7))
    noisy = [metrics.ssim((x + s * Noise(0).normal(*x.shape)).clamp(0, 1), x) for s in (0.05, 0.2, 0.8)]
    assert (noisy[0] > noisy[1]).all()
    assert (noisy[1] > noisy[2]).all()
    assert (metrics.ssim(1 - x, x) < 0.2).all()  # a negative has the same edges and no resemblance


def test_ssim_refuses_pictures_without_a_reference_and_references_without_a_picture():
    x = Noise(0).uniform(3, 1, 11, 11)
    for pictures, references in ((x[:2], x), (x, x[:2])):
        with pytest.raises(ValueError, match="zip"):
            metrics.ssim(pictures, references)


# ---------------------------------------------------------------- the likelihood of grey pixels

LEVELS = torch.arange(256).double() / 255


@SEEDS
def test_the_256_levels_have_a_mass_of_one(seed):
    mean, log_scale = 0.5 + Noise(seed, 0).normal(1).double(), 2 * Noise(seed, 1).normal(1).double() - 3
    nll = discretised_logistic_nll(mean.expand(256, 1), log_scale.expand(256, 1), LEVELS[:, None])
    assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-12)


@SEEDS
def test_each_levels_mass_agrees_with_scipy_and_the_ends_have_the_tails(seed):
    mean, scale = 0.5 + 0.3 * Noise(seed, 0).normal(1).item(), math.exp(Noise(seed, 1).normal(1).item() - 2)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    masses = np.diff(logistic.cdf(edges, mean, scale))
    both = torch.tensor([mean, math.log(scale)], dtype=torch.float64).expand(256, 2).split(1, dim=1)
    nll = discretised_logistic_nll(*both, LEVELS[:, None])
    np.testing.assert_allclose((-nll).exp().numpy(), masses, rtol=1e-9, atol=1e-14)
    for level, expected in ((0, logistic.cdf(0.5 / 255, mean, scale)), (255, logistic.sf(254.5 / 255, mean, scale))):
        assert (-nll[level]).exp().item() == pytest.approx(expected, rel=1e-9)


@SEEDS
def test_gradients_agree_with_the_difference_of_sigmoids(seed):
    """Where the plain formula is accurate, near the mean, its gradients are ours; and finite differences agree."""
    x = Noise(seed, 0).integers(256, 7, 1, 3, 5).double() / 255
    mean = (x + 0.1 * Noise(seed, 1).normal(7, 1, 3, 5)).requires_grad_()
    log_scale = (0.3 * Noise(seed, 2).normal(7, 1, 3, 5).double() - 2).requires_grad_()

    def plain(mean, log_scale):
        upper = ((x - mean + 0.5 / 255) / log_scale.exp()).sigmoid().where(x < 1, 1.0)
        lower = ((x - mean - 0.5 / 255) / log_scale.exp()).sigmoid().where(x > 0, 0.0)
        return -(upper - lower).log().flatten(1).sum(dim=1)

    ours = discretised_logistic_nll(mean, log_scale, x)
    assert ours.shape == (7,)
    torch.testing.assert_close(ours, plain(mean, log_scale))
    for a, b in zip(torch.autograd.grad(ours.sum(), (mean, log_scale)),
                    torch.autograd.grad(plain(mean, log_scale).sum(), (mean, log_scale)), strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(lambda m, s: discretised_logistic_nll(m, s, x[:1]), (mean[:1], log_scale[:1]))


@pytest.mark.parametrize("mean", [-1e4, -3.0, 0.0, 0.5, 1.0, 7.0, 1e4])
@pytest.mark.parametrize("log_scale", [-20.0, -7.0, 0.0, 7.0, 20.0])
def test_values_and_gradients_are_finite_far_away_and_point_home(mean, log_scale):
    x = torch.tensor([0.0, 1 / 255, 0.5019608, 254 / 255, 1.0])[:, None]
    m, s = torch.full((5, 1), mean, requires_grad=True), torch.full((5, 1), log_scale, requires_grad=True)
    nll = discretised_logistic_nll(m, s, x)
    nll.sum().backward()
    assert nll.isfinite().all()
    assert (nll >= 0).all()
    assert m.grad.isfinite().all()
    assert s.grad.isfinite().all()
    if abs(mean) > 2 and log_scale <= 0:  # a mean outside: the loss falls towards the pixel
        inner = m.grad[1:4] * math.copysign(1, mean)
        assert (inner > 0).all()


def test_grey_likelihoods_keep_order_dtype_and_device():
    x = Noise(0).integers(256, 7, 1, 3, 5) / 255
    mean, log_scale, order = Noise(1).uniform(7, 1, 3, 5), Noise(2).normal(7, 1, 3, 5) - 2, Noise(3).permutation(7)
    nll = discretised_logistic_nll(mean, log_scale, x)
    torch.testing.assert_close(discretised_logistic_nll(mean[order], log_scale[order], x[order]), nll[order])
    short = mean.bfloat16(), log_scale.bfloat16()
    assert torch.equal(discretised_logistic_nll(*short, x), discretised_logistic_nll(short[0].float(), short[1].float(), x))
    assert discretised_logistic_nll(mean.to("meta"), log_scale.to("meta"), x.to("meta")).shape == (7,)


def test_bits_per_dimension():
    x = Noise(0).integers(256, 7, 1, 3, 5) / 255
    torch.testing.assert_close(metrics.bits_per_dimension(torch.full((7,), 15 * math.log(256)), x), torch.full((7,), 8.0))
    assert metrics.bits_per_dimension(torch.tensor([15 * math.log(256)]), x[:1]).tolist() == pytest.approx([8])  # one picture
    wide = discretised_logistic_nll(torch.full_like(x, 0.5), torch.full_like(x, -1.0), x)
    assert 7 < metrics.bits_per_dimension(wide, x).mean().item() < 9  # knows next to nothing


def test_precision_and_recall_look_at_three_neighbours_unless_told():
    real, made = Noise(0).normal(60, 3), 1.3 * Noise(1).normal(60, 3)
    assert metrics.precision_recall(real, made) == metrics.precision_recall(real, made, k=3)
    assert metrics.precision_recall(real, made) != metrics.precision_recall(real, made, k=4)


def test_a_judge_who_cannot_decide_has_not_said_real():
    undecided = metrics.detection(torch.zeros(3), torch.zeros(5))
    assert undecided.accuracy == 5 / 8
