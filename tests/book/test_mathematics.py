"""The mathematics page, replayed: its sessions, every decimal number in its text, its functions and its picture.

The page's sessions run in one namespace, as they would for a reader. Their outputs are compared character by character,
the decimals of each section's text must come from that section's sessions, and the functions that the sessions define
are held against scipy, torch and numerical integration.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import bernoulli, norm
from sessions import SESSION, replay, replay_all, sections, unsupported

PAGE = Path(__file__).resolve().parents[2] / "book" / "mathematics.md"
SEEDS = range(20)

SECTIONS = sections(PAGE.read_text(encoding="utf-8"))
WITH_SESSION = [title for title, body in SECTIONS.items() if SESSION.search(body)]


@pytest.fixture(scope="module")
def replayed() -> tuple[dict[str, Any], dict[str, str]]:
    """All sessions, from the top: what they define, and the reports by section."""
    return replay_all(SECTIONS)


@pytest.fixture(scope="module")
def page(replayed: tuple[dict[str, Any], dict[str, str]]) -> dict[str, Any]:
    return replayed[0]


@pytest.mark.parametrize("title", WITH_SESSION)
def test_a_section_s_sessions_print_what_the_page_says(replayed, title):
    assert replayed[1][title] == ""


@pytest.mark.parametrize("title", SECTIONS)
def test_each_decimal_in_the_text_comes_from_a_session_of_its_section(title):
    assert unsupported(SECTIONS[title]) == [], f"decimals in “{title}” that no session of the section yields"


def test_a_wrong_number_would_be_found():
    title = "Between two Gaussians"
    body = SECTIONS[title]
    assert unsupported(body.replace("0.818 nats", "0.819 nats")) == ["0.819"]
    namespace: dict[str, Any] = {"math": math}
    (session,) = SESSION.findall(body)
    assert replay(session, namespace, title) == ""
    assert "0.8182" in replay(session.replace("0.8181", "0.8182"), namespace, title)


def test_most_sections_have_a_session():
    derivations = [t for t in SECTIONS if t not in ("Mathematics refresher", "Gaussians", "What to read")]
    without = set(derivations) - set(WITH_SESSION)
    # These derive what the section after them puts numbers to.
    kl = {"The Kullback–Leibler divergence", "It is never negative", "The direction matters"}
    assert without == {"The density"} | kl


# ---------------------------------------------------------------- the page's functions against other implementations


def draw(seed: int, low: float, high: float, n: int) -> list[float]:
    return np.random.default_rng(seed).uniform(low, high, n).tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_normal_density_agrees_with_scipy(page, seed):
    x, mu, var = draw(seed, -2, 2, 1) + draw(seed + 100, -1, 1, 1) + draw(seed + 200, 0.1, 3, 1)
    assert page["normal_density"](x, mu, var) == pytest.approx(norm.pdf(x, mu, math.sqrt(var)), rel=1e-12)


def test_the_normal_density_s_constant_and_moments():
    moment = {k: quad(lambda z, k=k: z**k * norm.pdf(z), -np.inf, np.inf)[0] for k in (0, 2, 4, 6)}
    assert moment == pytest.approx({0: 1, 2: 1, 4: 3, 6: 15}, rel=1e-9)
    assert quad(lambda z: math.exp(-(z**2) / 2), -np.inf, np.inf)[0] ** 2 == pytest.approx(2 * math.pi, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_product_of_normal_densities(page, seed):
    (m1, m2, x), (v1, v2) = draw(seed, -2, 2, 3), draw(seed + 100, 0.2, 3, 2)
    density, v = page["normal_density"], 1 / (1 / v1 + 1 / v2)
    area, m = density(m1, m2, v1 + v2), v * (m1 / v1 + m2 / v2)
    assert density(x, m1, v1) * density(x, m2, v2) == pytest.approx(area * density(x, m, v), rel=1e-12)
    integral = quad(lambda x: norm.pdf(x, m1, v1**0.5) * norm.pdf(x, m2, v2**0.5), -np.inf, np.inf)[0]
    assert area == pytest.approx(integral, rel=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_gaussian_marginal_and_posterior_by_quadrature(seed):
    (w, b, x), (sigma,) = draw(seed, -2, 2, 3), draw(seed + 100, 0.4, 2, 1)
    joint = lambda z: norm.pdf(z) * norm.pdf(x, b + w * z, sigma)  # noqa: E731
    marginal = quad(joint, -10, 10, points=(w * (x - b) / (w**2 + sigma**2),))[0]
    assert norm.pdf(x, b, math.hypot(w, sigma)) == pytest.approx(marginal, rel=1e-7)
    mean, var = w * (x - b) / (w**2 + sigma**2), sigma**2 / (w**2 + sigma**2)
    for z in (-1.0, 0.3, 2.0):
        assert norm.pdf(z, mean, math.sqrt(var)) == pytest.approx(joint(z) / marginal, rel=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_gaussian_in_several_dimensions(seed):
    rng = np.random.default_rng(seed)
    D, K, s2 = 5, 3, rng.uniform(0.2, 2)
    W, r, z = rng.normal(size=(D, K)), rng.normal(size=D), rng.normal(size=K)
    Lam = np.eye(K) + W.T @ W / s2
    M = np.eye(D) / s2 - W @ np.linalg.inv(Lam) @ W.T / s2**2
    mu = np.linalg.solve(Lam, W.T @ r) / s2
    np.testing.assert_allclose((W @ W.T + s2 * np.eye(D)) @ M, np.eye(D), atol=1e-10)
    left = z @ z + (r - W @ z) @ (r - W @ z) / s2
    assert left == pytest.approx((z - mu) @ Lam @ (z - mu) + r @ M @ r, rel=1e-9)


def test_squared_uniform_density_has_the_right_areas(page):
    for b in (0.04, 0.25, 0.81):
        assert quad(page["squared_uniform_density"], 0, b)[0] == pytest.approx(math.sqrt(b), rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_jensen_holds_and_averaging_closes_the_gap(page, seed):
    x = np.random.default_rng(seed).lognormal(size=1000)
    assert np.log(x).mean() < math.log(x.mean())
    bounds = [page["expected_log_of_average"](K) for K in (1, 2, 3, 4 + seed, 60, 200)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(0, abs=1e-12)
    assert bounds[-1] < math.log(1.25) < bounds[-1] + 2e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_normal_kl_agrees_with_quadrature_and_torch(page, seed):
    (m1, m2), (v1, v2) = draw(seed, -2, 2, 2), draw(seed + 100, 0.2, 3, 2)
    p, q = norm(m1, v1**0.5), norm(m2, v2**0.5)
    ours = page["normal_kl"](m1, v1, m2, v2)
    assert ours == pytest.approx(quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), m1 - 12, m1 + 12)[0], rel=1e-6)
    P, Q = (torch.distributions.Normal(torch.tensor(m, dtype=torch.float64), v**0.5) for m, v in ((m1, v1), (m2, v2)))
    assert ours == pytest.approx(torch.distributions.kl_divergence(P, Q).item(), rel=1e-9)
    assert page["normal_kl"](m1, v1, m1, v1) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_entropies_and_divergences_of_discrete_distributions(page, seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(7), size=2)
    P, Q = (torch.distributions.Categorical(torch.tensor(a)) for a in (p, q))
    assert page["entropy"](p) == pytest.approx(P.entropy().item(), rel=1e-9)
    assert page["kl"](p, q) == pytest.approx(torch.distributions.kl_divergence(P, Q).item(), rel=1e-9)
    assert page["cross_entropy"](p, q) - page["entropy"](p) == pytest.approx(page["kl"](p, q), rel=1e-9)
    assert 0 < page["jsd"](p, q) < math.log(2)
    coin = math.log(2) + 0.5 * (p * np.log(p / (p + q))).sum() + 0.5 * (q * np.log(q / (p + q))).sum()
    assert page["jsd"](p, q) == pytest.approx(page["jsd"](q, p), rel=1e-12) == pytest.approx(coin, rel=1e-9)
    assert page["jsd"](p, p) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_coin_s_likelihood_is_best_at_the_share_of_heads(page, seed):
    tosses, heads = 11 + seed, 3 + seed // 2
    best = heads / tosses
    assert page["coin_nll"](heads, tosses, best) == pytest.approx(
        -bernoulli.logpmf([1] * heads + [0] * (tosses - heads), best).sum(), rel=1e-9
    )
    others = [page["coin_nll"](heads, tosses, pi) for pi in np.linspace(0.01, 0.99, 99)]
    assert min(others) >= page["coin_nll"](heads, tosses, best)
    grey = best
    assert page["bce"](grey, grey) == pytest.approx(page["entropy"]([grey, 1 - grey]), rel=1e-12)


@pytest.mark.parametrize("a", [-800.0, -37.0, -3.3, -0.2, 0.0, 0.7, 4.1, 40.0, 1000.0])
def test_sigmoid_and_softplus_agree_with_torch_with_their_gradients(page, a):
    t = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    assert page["softplus"](a) == pytest.approx(-torch.nn.functional.logsigmoid(-t).item(), rel=1e-12)
    (slope,) = torch.autograd.grad(torch.nn.functional.logsigmoid(t), t)
    if abs(a) < 700:
        assert page["sigmoid"](a) == pytest.approx(torch.sigmoid(t).item(), rel=1e-12)
        assert slope.item() == pytest.approx(page["sigmoid"](-a), rel=1e-12)
    if abs(a) < 30:
        assert page["logit"](page["sigmoid"](a)) == pytest.approx(a, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_variances_of_the_two_gradient_estimators_by_quadrature(seed):
    (mu,), (sigma,) = draw(seed, -2, 2, 1), draw(seed + 100, 0.3, 2, 1)

    def moments(g):
        mean, square = (quad(lambda e, k=k: g(e) ** k * norm.pdf(e), -12, 12, limit=200)[0] for k in (1, 2))
        return mean, square - mean**2

    mean, var = moments(lambda e: 2 * (mu + sigma * e))
    assert (mean, var) == pytest.approx((2 * mu, 4 * sigma**2), rel=1e-6, abs=1e-9)
    mean, var = moments(lambda e: (mu + sigma * e) ** 2 * e / sigma)
    assert (mean, var) == pytest.approx((2 * mu, mu**4 / sigma**2 + 14 * mu**2 + 15 * sigma**2), rel=1e-6, abs=1e-9)


# ---------------------------------------------------------------- the picture


def test_the_picture_of_jensen_s_inequality_is_drawn_to_scale():
    body = SECTIONS["Jensen's inequality"]

    def line(name: str) -> list[float]:
        (tag,) = re.findall(rf'<line class="{name}"[^>]*>', body)
        return [float(re.search(rf' {k}="([\d.]+)"', tag)[1]) for k in ("x1", "y1", "x2", "y2")]

    (path,) = re.findall(r'<path class="curve" d="M([\d., ]+)"', body)
    curve = np.array([[float(v) for v in pair.split(",")] for pair in path.split()])
    # The chord ends at x = 0.5 and x = 2 on the curve: that fixes the scales of both axes.
    ax, ay, bx, by = line("chord")
    x = 0.5 + (curve[:, 0] - ax) / (bx - ax) * 1.5
    y = math.log(0.5) + (curve[:, 1] - ay) / (by - ay) * math.log(4)
    assert np.abs(y - np.log(x)).max() < 0.003
    gx, low, _, high = line("gap")
    assert 0.5 + (gx - ax) / (bx - ax) * 1.5 == pytest.approx(1.25, abs=0.003)
    assert math.log(0.5) + (low - ay) / (by - ay) * math.log(4) == pytest.approx(0, abs=0.003)
    assert math.log(0.5) + (high - ay) / (by - ay) * math.log(4) == pytest.approx(math.log(1.25), abs=0.003)
    tx, ty, ux, uy = line("tangent")
    for px, py in ((tx, ty), (ux, uy)):
        at = 0.5 + (px - ax) / (bx - ax) * 1.5
        height = math.log(0.5) + (py - ay) / (by - ay) * math.log(4)
        assert height == pytest.approx(math.log(1.25) + (at - 1.25) / 1.25, abs=0.006)
