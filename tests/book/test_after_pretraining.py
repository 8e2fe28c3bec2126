"""The page on what follows pre-training, replayed, and each of its formulas held against another way to it.

The tilt against numerical optimisation and against a thousand other models, gradients against automatic differentiation,
the best of n against drawing, the bound against integration. The page's own functions are the ones that are tested.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.optimize import minimize
from sessions import PICTURE, SESSION, replay_all, sections, unsupported

from genai_lib import Noise, pretrained
from genai_lib.data.levels import CELLS
from genai_lib.games import playability
from genai_lib.recipes import levels

PAGE = Path(__file__).resolve().parents[2] / "book" / "after_pretraining.md"
PLACE = re.compile(r"§\d+\.\d+|\(10\.\d+\)|\[section \d+\.\d+\]", re.IGNORECASE)
SEEDS = range(20)

TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = sections(TEXT, "#{1,2}")
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
    assert unsupported(SECTIONS[title], PLACE) == []


def test_a_wrong_number_would_be_found():
    body = SECTIONS["As much reward as possible, but not far"]
    assert unsupported(body.replace("falls to 0.29", "falls to 0.31"), PLACE) == ["0.31"]


def test_every_step_has_a_session():
    assert set(SECTIONS) - set(WITH_SESSION) == {"What each step can do, and what it cannot", "What to read"}


# ---------------------------------------------------------------- instructions and preferences


@pytest.mark.parametrize("seed", SEEDS)
def test_the_instruction_s_own_tokens_have_no_gradient_of_their_own(seed):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 7, generator=g, dtype=torch.float64, requires_grad=True)
    tokens, is_answer = torch.randint(7, (5,), generator=g), torch.tensor([False, False, False, True, True])
    F.cross_entropy(logits[is_answer], tokens[is_answer], reduction="sum").backward()
    assert logits.grad[~is_answer].abs().max() == 0
    expected = logits.detach().softmax(dim=1) - F.one_hot(tokens, 7)
    torch.testing.assert_close(logits.grad[is_answer], expected[is_answer])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reward_s_gradient_is_the_surprise(seed):
    d = torch.randn((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(-F.logsigmoid(3 * d), d)
    assert slope.item() == pytest.approx(-3 * (1 - torch.sigmoid(3 * d).item()), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_planted_rewards_are_found_again(page, seed):
    rng = np.random.default_rng(seed)
    planted = np.concatenate([[0.0], rng.uniform(-2, 2, 4)])
    chances = 1 / (1 + np.exp(-(planted[:, None] - planted)))
    exact = page["fit_rewards"]((2_000 * chances * (1 - np.eye(5))).tolist(), steps=4_000)
    np.testing.assert_allclose(exact, planted, atol=2e-3)
    drawn = np.triu(rng.binomial(2_000, chances), 1)
    wins = drawn + np.tril(2_000 - drawn.T, -1)
    np.testing.assert_allclose(page["fit_rewards"](wins.tolist(), steps=4_000), planted, atol=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_of_rewards_is_the_maximum_of_the_likelihood(page, seed):
    wins = np.random.default_rng(seed).integers(1, 50, (4, 4)) * (1 - np.eye(4))

    def nll(r):
        return (wins * np.logaddexp(0, -(np.subtract.outer(r, r)))).sum()

    best = minimize(nll, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose(page["fit_rewards"](wins.tolist(), steps=4_000), best - best[0], atol=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_tastes_that_go_round_leave_no_reward(page, seed):
    often = int(np.random.default_rng(seed).integers(51, 100))
    seldom = 100 - often
    wins = [[0, often, seldom], [seldom, 0, often], [often, seldom, 0]]
    assert page["fit_rewards"](wins) == pytest.approx([0, 0, 0], abs=1e-12)


# ---------------------------------------------------------------- the tilt


def problem(seed: int, n: int = 7) -> tuple[np.ndarray, np.ndarray, float]:
    """A model before, rewards, and a price of straying."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.normal(size=n), rng.uniform(0.2, 2)


def objective(pi: np.ndarray, p: np.ndarray, r: np.ndarray, beta: float) -> float:
    return pi @ r - beta * (pi * np.log(pi / p)).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tilt_is_the_best_model(page, seed):
    p, r, beta = problem(seed)
    best, Z = page["tilt"](p, r, beta)
    assert sum(best) == pytest.approx(1, rel=1e-12)
    numerical = minimize(lambda a: -objective(np.exp(a - np.logaddexp.reduce(a)), p, r, beta), np.log(p), tol=1e-12).x
    np.testing.assert_allclose(np.exp(numerical - np.logaddexp.reduce(numerical)), best, atol=1e-4)
    assert objective(np.array(best), p, r, beta) == pytest.approx(beta * math.log(Z), rel=1e-9)
    for other in np.random.default_rng(seed).dirichlet(np.ones(7), 1_000):  # the gap, formula and all
        gap = beta * math.log(Z) - beta * page["kl"](other, best)
        assert objective(other, p, r, beta) == pytest.approx(gap, rel=1e-8, abs=1e-10)
        assert gap < beta * math.log(Z)


@pytest.mark.parametrize("seed", SEEDS)
def test_reward_grows_with_its_variance_and_ends_at_the_best_answer(page, seed):
    p, r, beta = problem(seed)
    s, h = 1 / beta, 1e-4

    def at(s):
        pi, Z = page["tilt"](p, r, 1 / s)
        return page["mean"](pi, r), math.log(Z), np.array(pi)

    (low, z_low, _), (high, z_high, _), (earned, _, pi) = at(s - h), at(s + h), at(s)
    assert (z_high - z_low) / (2 * h) == pytest.approx(earned, rel=1e-5, abs=1e-7)
    assert (high - low) / (2 * h) == pytest.approx(pi @ r**2 - earned**2, rel=1e-5, abs=1e-7)
    p[r.argmax()] = 0  # the best answer is never written
    pi, _ = page["tilt"](p / p.sum(), r, 0.005)
    assert pi[r.argmax()] == 0
    assert np.argmax(pi) == np.where(p > 0, r, -np.inf).argmax()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_uphill_and_where_it_leads(page, seed):
    p, r, beta = problem(seed)
    tp, tr = torch.tensor(p), torch.tensor(r)
    a = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    log_pi = a.log_softmax(dim=0)
    (direct,) = torch.autograd.grad((log_pi.exp() * (tr - beta * (log_pi - tp.log()))).sum(), a, retain_graph=True)
    bracket = (tr - beta * (log_pi - tp.log())).detach()
    for usual in (0.0, 5.0, (log_pi.exp() * bracket).sum().item()):  # what is usual changes nothing in the mean
        (by_score,) = torch.autograd.grad((log_pi.exp().detach() * (bracket - usual) * log_pi).sum(), a, retain_graph=True)
        torch.testing.assert_close(by_score, direct)
    np.testing.assert_allclose(page["climb"](p, r, beta, steps=20_000), page["tilt"](p, r, beta)[0], atol=2e-3)


def test_the_picture_is_drawn_to_scale(page):
    (figure,) = PICTURE.findall(TEXT)
    p, beta = page["p"], np.geomspace(0.05, 50, 400)
    tilted = [page["tilt"](p, page["reward"], b)[0] for b in beta]
    for name in ("reward", "worth"):
        (path,) = re.findall(rf'<path class="{name}" d="M([\d., ]+)"', figure)
        (dots,) = re.findall(rf'<g class="{name}-best"[^>]*>(.*?)</g>', figure)
        points = np.array([[float(v) for v in pair.split(",")] for pair in path.split()])
        circles = np.array(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', dots), dtype=float)
        line = np.array([[44 + 168 * page["kl"](pi, p), 246 - 105 * page["mean"](pi, page[name])] for pi in tilted])
        assert max(np.hypot(*(line - point).T).min() for point in points) < 2.5  # pixels of 480
        drawn = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(points)])
        assert max(np.hypot(*(drawn - point).T).min() for point in line) < 2.5
        best = [page["best_of"](n, p, page["reward"]) for n in (1, 2, 4, 8, 16, 64)]
        expected = [[44 + 168 * page["kl"](pi, p), 246 - 105 * page["mean"](pi, page[name])] for pi in best]
        np.testing.assert_allclose(circles, expected, atol=0.06)
    axis = dict(re.findall(r'<text x="([\d.]+)" y="266">(\d)</text>', figure))
    assert {float(x): int(n) for x, n in axis.items()} == {44.0: 0, 212.0: 1, 380.0: 2}


# ---------------------------------------------------------------- DPO


@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_s_gradient_is_zero_at_the_tilt_and_nowhere_near_it(page, seed):
    p, r, beta = problem(seed)
    best = np.array(page["tilt"](p, r, beta)[0])
    assert np.abs(page["dpo_gradient"](best, p, r, beta)).max() < 1e-12
    near = 0.99 * best + 0.01 / 7
    assert np.abs(page["dpo_gradient"](near, p, r, beta)).max() > 1e-5
    assert np.abs(page["dpo_gradient"](p, p, r, beta)).max() > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_s_gradient_agrees_with_automatic_differentiation(page, seed):
    p, r, beta = problem(seed)
    a = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    h = beta * (a.log_softmax(dim=0) - torch.tensor(p).log())
    wins = torch.sigmoid(torch.tensor(r)[:, None] - torch.tensor(r))  # P(row beats column)
    loss = -(wins * F.logsigmoid(h[:, None] - h)).sum()
    (expected,) = torch.autograd.grad(loss, a)
    ours = page["dpo_gradient"](a.softmax(dim=0).tolist(), p, r, beta)
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_model_is_best_for_its_own_reward(page, seed):
    p, r, beta = problem(seed)
    pi, Z = page["tilt"](p, r, beta)
    implied = [beta * math.log(q / b) + beta * math.log(Z) for q, b in zip(pi, p, strict=True)]
    np.testing.assert_allclose(implied, r, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_does_not_see_answers_outside_its_pair(seed):
    """Both answers lose half of their probability: the loss stays. The loser a little more: it falls."""
    p, _, beta = problem(seed, 3)
    pi = np.random.default_rng(seed + 100).dirichlet(np.ones(3))

    def loss(pi):
        d = beta * (math.log(pi[0] / p[0]) - math.log(pi[1] / p[1]))
        return math.log1p(math.exp(-d))

    halved = np.array([pi[0] / 2, pi[1] / 2, 1 - (pi[0] + pi[1]) / 2])
    assert loss(halved) == pytest.approx(loss(pi), rel=1e-9)
    rarer = np.array([0.5 * pi[0], 0.4 * pi[1], 1 - 0.5 * pi[0] - 0.4 * pi[1]])
    assert rarer[0] < pi[0]
    assert loss(rarer) < loss(pi)


# ---------------------------------------------------------------- best of n


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64])
def test_the_bound_is_the_distance_of_the_ranks(n):
    integral = quad(lambda u: n * u ** (n - 1) * math.log(n * u ** (n - 1)), 0, 1)[0]
    assert math.log(n) - (n - 1) / n == pytest.approx(integral, abs=1e-6)
    assert quad(lambda u: n * u ** (n - 1) * math.log(u), 0, 1)[0] == pytest.approx(-1 / n, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_best_of_n_keeps_the_bound_and_reaches_it_where_ranks_are_fine(page, seed):
    p, r, _ = problem(seed)
    for n in (2, 3, 10, 100):
        bound = math.log(n) - (n - 1) / n
        assert page["kl"](page["best_of"](n, p, r), p) < bound
        fine = np.full(20_000, 1 / 20_000)
        assert page["kl"](page["best_of"](n, fine, np.arange(20_000)), fine) == pytest.approx(bound, rel=0.01)


def test_best_of_n_agrees_with_drawing(page):
    rng = np.random.default_rng(0)
    p, reward = np.array(page["p"]), np.array(page["reward"])
    drawn = rng.choice(5, p=p, size=(200_000, 4))
    best = drawn[np.arange(len(drawn)), reward[drawn].argmax(axis=1)]
    np.testing.assert_allclose(np.bincount(best, minlength=5) / len(best), page["best_of"](4, p, reward), atol=0.006)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_best_of_n_earns_more_than_the_tilt_at_its_distance(page, seed):
    p, r, _ = problem(seed)
    for n in (2, 5, 20):
        pi = np.array(page["best_of"](n, p, r))
        for beta in (0.1, 0.5, 1, 3):  # J of the tilt is the largest, at every price
            assert objective(np.maximum(pi, 1e-300), p, r, beta) <= beta * math.log(page["tilt"](p, r, beta)[1]) + 1e-12


# ---------------------------------------------------------------- rewards that are checked


@pytest.mark.parametrize("seed", SEEDS)
def test_tilting_to_what_passes_is_conditioning_on_it(page, seed):
    p, r, beta = problem(seed)
    passes = (r > np.median(r)).astype(float)
    a = p @ passes
    pi = np.array(page["tilt"](p, passes, beta)[0])
    assert pi @ passes == pytest.approx(a * math.exp(1 / beta) / (a * math.exp(1 / beta) + 1 - a), rel=1e-9)
    given = p * passes / a
    np.testing.assert_allclose(page["tilt"](p, passes, 0.01)[0], given, atol=1e-9)
    assert page["kl"](given, p) == pytest.approx(-math.log(a), rel=1e-9)
    # The likelihood of the kept answers is highest for the model given that they pass.
    scores = minimize(lambda b: -(given @ (b - np.logaddexp.reduce(b))), np.zeros(7), tol=1e-12).x
    np.testing.assert_allclose(np.exp(scores - np.logaddexp.reduce(scores)), given, atol=1e-3)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_k_tries_agree_with_drawing(k):
    tries = np.random.default_rng(k).random((200_000, k)) < 0.1
    assert 1 - 0.9**k == pytest.approx(tries.any(axis=1).mean(), abs=0.005)


# ---------------------------------------------------------------- our own models


def test_the_level_writer_was_trained_as_the_page_tells(monkeypatch):
    """Six rounds of 8,000 new levels, a search of 500 states, half of each batch; 400 levels and 2,000 states for the card."""
    recipe, told = levels.RECIPES[0], {}
    assert len(recipe.shipped.stages) == 7
    assert recipe.shipped.then is levels.OWN
    assert recipe.minute.then is None
    assert pretrained.card("sokoban")["effort"] == asdict(recipe.shipped)

    def fresh(model, n, noise, *, orders, temperature):
        told["written"], told["full rooms"] = n, (orders(n, noise)[:, :2] - len(CELLS) == levels.SIDE).all(dim=1)
        return levels.small_levels("test")[:3], 1.0

    def search(level, *, limit):
        told["limit"] = limit
        return solve(level, limit=100_000 if level is levels.small_levels("test")[0] else 1)

    def keep(model, effort, steps, *, prepare):
        told["prepare"] = prepare
        return []

    solve = levels.solve
    for name, instead in {"fresh": fresh, "solve": search, "token_player": keep}.items():
        monkeypatch.setattr(levels, name, instead)
    levels._players(torch.nn.Linear(1, 1), levels.OWN, 1)
    own, by_people = levels.encode(levels.small_levels("test")[:1]), levels.rows("train")[:10]
    batch = told["prepare"](by_people, Noise(0))
    assert (told["written"], told["limit"]) == (8_000, levels.LIMIT // 4)
    assert told["full rooms"][4_000:].all()
    assert told["full rooms"][:4_000].float().mean() < 0.5
    assert [any(torch.equal(row, mine) for mine in own) for row in batch] == [False] * 5 + [True] * 5
    assert inspect.signature(levels._quality).parameters["n"].default == 400
    assert inspect.signature(playability).parameters["limit"].default == levels.LIMIT == 2_000
