"""Diffusion (Ho, Jain & Abbeel 2020; Song, Meng & Ermon 2021) and flow matching (Lipman et al. 2023).

Drown a picture in noise, a little at each of T steps, and train a network to undo it. To draw a picture, start from
pure noise and undo T steps that never happened.

The samplers take any `network(x, t, y)` that predicts ε: x (B, …), t (B,) the time from 0 (clean) to 1 (pure noise),
y (B, …) the condition, or None. Where E[ε | x_t] is known in closed form, put that in a network's place.

B batch, T steps, x_0 the clean picture with pixels in [−1, 1], ε ~ N(0, I). Steps count 1 … T as in the papers; step 0 is
the clean picture, so tables have T + 1 rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genai_lib.noise import Noise

Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]

# ---------------------------------------------------------------- the forward process


def linear_beta(T: int) -> Tensor:
    """β_1 … β_T from 10⁻⁴ to 0.02 for T = 1000 (Ho et al. 2020, §4), 1000 / T times that for other T: (T,) float64."""
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T


def cosine_beta(T: int) -> Tensor:
    """β_1 … β_T that make √ᾱ_t a quarter of a cosine wave (Nichol & Dhariwal 2021, eq. 17): (T,) float64."""
    t = torch.arange(T + 1, dtype=torch.float64) / T
    wave = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
    return 1 - wave[1:] / wave[:-1]


SCHEDULES = {"linear": linear_beta, "cosine": cosine_beta}


def _beside(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))  # (B,) → (B, 1, …)


class Schedule(nn.Module):
    """The forward process x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε for a schedule's name and T, and what follows by Bayes' rule.

    Attributes
    ----------
    beta_t, alpha_bar : (T + 1,) float64
        Variance added at each step, and share of the picture's variance left: ᾱ_t = Π (1 − β_s). Row 0: β_0 = 0, ᾱ_0 = 1.
        They are computed anew, not saved with the weights.
    """

    beta_t: Tensor
    alpha_bar: Tensor

    def __init__(self, name: str = "cosine", *, T: int = 1000) -> None:
        super().__init__()
        if name not in SCHEDULES:
            raise ValueError(f"there is no schedule named {name!r}. The schedules are: {', '.join(SCHEDULES)}.")
        if T < 2:
            raise ValueError(f"T must be 2 or more, got {T}")
        self.T = T
        beta_t = torch.cat([torch.zeros(1), SCHEDULES[name](T).clamp(max=0.999)])
        self.register_buffer("beta_t", beta_t, persistent=False)
        self.register_buffer("alpha_bar", (1 - beta_t).cumprod(0), persistent=False)

    def scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1 − ᾱ_t) of the steps t (B,), shaped and typed to multiply `like` (B, …)."""
        alpha_bar = _beside(self.alpha_bar[t], like)
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)

    def q_sample(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Jump from x_0 to x_t with the noise ε, all (B, …); t (B,) in 0 … T (Ho et al. 2020, eq. 4)."""
        signal, sigma = self.scales(t, x0)
        return signal * x0 + sigma * eps

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The x_0 that makes x_t out of ε: `q_sample` solved for x_0 (Ho et al. 2020, eq. 15)."""
        signal, sigma = self.scales(t, x_t)
        return (x_t - sigma * eps) / signal

    def predict_eps(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """The ε that makes x_t out of x_0: `q_sample` solved for ε; t in 1 … T."""
        signal, sigma = self.scales(t, x_t)
        return (x_t - signal * x0) / sigma

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, …) and variance β̃_t (B, 1, …) of q(x_{t−1} | x_t, x_0), t in 1 … T (Ho et al. 2020, eq. 6–7)."""
        beta, now, before = (_beside(a, x0) for a in (self.beta_t[t], self.alpha_bar[t], self.alpha_bar[t - 1]))
        of_x0 = before.sqrt() * beta / (1 - now)
        of_xt = (1 - beta).sqrt() * (1 - before) / (1 - now)
        return of_x0.to(x0) * x0 + of_xt.to(x0) * x_t, (beta * (1 - before) / (1 - now)).to(x0)


# ---------------------------------------------------------------- one step back


def ddpm_step(schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor, z: Tensor, *, clip: bool = True) -> Tensor:
    """x_{t−1} ~ q(x_{t−1} | x_t, x̂_0), with the x̂_0 that the predicted ε implies and fresh noise z, all (B, …).

    `clip` keeps x̂_0 in [−1, 1]. The last step, t = 1, adds no noise (Ho et al. 2020, algorithm 2, with σ_t² = β̃_t).
    """
    x0 = schedule.predict_x0(x_t, t, eps)
    mean, variance = schedule.posterior(x0.clamp(-1, 1) if clip else x0, x_t, t)
    return mean + variance.sqrt() * z


def ddim_step(
    schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor, z: Tensor, *, s: Tensor, eta: float = 0.0, clip: bool = True
) -> Tensor:
    """x_s for any earlier step s (B,) in 0 … t − 1: go to x̂_0, and back up to s with the same ε and fresh noise z.

    eta = 0 takes none of the fresh noise, eta = 1 as much as DDPM. Where `clip` changes x̂_0, ε changes with it, so that
    the two still make x_t (Song et al. 2021, eq. 12 and 16).
    """
    x0 = schedule.predict_x0(x_t, t, eps)
    if clip:
        x0 = x0.clamp(-1, 1)
        eps = schedule.predict_eps(x_t, t, x0)
    now, then = _beside(schedule.alpha_bar[t], x_t), _beside(schedule.alpha_bar[s], x_t)
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    signal, sigma = then.sqrt(), (1 - then - variance).clamp(min=0).sqrt()
    return signal.to(x_t) * x0 + sigma.to(x_t) * eps + variance.sqrt().to(x_t) * z


# ---------------------------------------------------------------- all steps back


def guided(network: Network, y: Tensor | None, guidance: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Classifier-free guidance: from the prediction without y, go `guidance` times the way to the one with y.

    1 is the plain conditional network, 0 ignores y, more than 1 exaggerates it (1 + w in Ho & Salimans 2022, eq. 6).
    """
    if y is None and guidance != 1:
        raise ValueError(f"guidance={guidance} needs a condition: give y, or leave guidance at 1")

    def predict(x: Tensor, t: Tensor) -> Tensor:
        towards = network(x, t, y)
        return towards if guidance == 1 else torch.lerp(network(x, t, None), towards, guidance)

    return predict


@torch.no_grad()
def ddpm(
    network: Network, schedule: Schedule, x: Tensor, noise: Noise, *, y: Tensor | None = None,
    guidance: float = 1.0, clip: bool = True,
) -> Tensor:  # fmt: skip
    """Turn x ~ N(0, I) (B, …) into x_0 in all T steps, each with fresh noise (Ho et al. 2020, algorithm 2)."""
    predict = guided(network, y, guidance)
    for step in range(schedule.T, 0, -1):
        t = torch.full(x.shape[:1], step, device=x.device)
        z = noise.normal(*x.shape).to(x)
        x = ddpm_step(schedule, x, t, predict(x, (t / schedule.T).to(x)), z, clip=clip)
    return x


@torch.no_grad()
def ddim(
    network: Network, schedule: Schedule, x: Tensor, noise: Noise, *, y: Tensor | None = None,
    guidance: float = 1.0, steps: int = 50, eta: float = 0.0, clip: bool = True,
) -> Tensor:  # fmt: skip
    """Turn x ~ N(0, I) (B, …) into x_0 in 1 to T evenly spaced steps (Song et al. 2021, §4.2)."""
    if not 1 <= steps <= schedule.T:
        raise ValueError(f"steps must lie between 1 and T={schedule.T}, got {steps}")
    predict = guided(network, y, guidance)
    stops = torch.linspace(schedule.T, 0, steps + 1, dtype=torch.float64, device="cpu").round().long().tolist()
    for now, then in itertools.pairwise(stops):
        t, s = (torch.full(x.shape[:1], step, device=x.device) for step in (now, then))
        z = noise.normal(*x.shape).to(x) if eta else torch.zeros_like(x)
        x = ddim_step(schedule, x, t, predict(x, (t / schedule.T).to(x)), z, s=s, eta=eta, clip=clip)
    return x


@torch.no_grad()
def flow(
    network: Network, x: Tensor, *, y: Tensor | None = None, guidance: float = 1.0, steps: int = 25, heun: bool = True
) -> Tensor:
    """Follow the velocity dx/dt = network(x, t, y) from x ~ N(0, I) (B, …) at t = 1 to x_0 at t = 0.

    Euler's method evaluates once a step and errs by O(1 / steps); Heun's evaluates twice and errs by O(1 / steps²).
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    velocity = guided(network, y, guidance)
    for step in range(steps, 0, -1):
        t, s = (torch.full_like(x.flatten(1)[:, 0], k / steps) for k in (step, step - 1))
        v = velocity(x, t)
        if heun:
            v = (v + velocity(x - v / steps, s)) / 2
        x = x - v / steps
    return x


# ---------------------------------------------------------------- models: [0, 1] outside, [−1, 1] inside


def _any_class(network: nn.Module, n: int, noise: Noise) -> Tensor | None:
    """A class for each of n pictures, drawn at random; None if the network is not told one."""
    classes = getattr(network, "classes", 0)
    return noise.integers(classes, n) if classes else None


class Diffusion(nn.Module):
    """A `network` (x, t, y) → (B, C, H, W), the schedule it is trained for, and a picture's shape.

    It `predicts` ε, "eps", as in Ho et al. 2020; or "v", √ᾱ_t ε − √(1 − ᾱ_t) x_0, which also asks for x_0 where there is
    almost nothing but noise, and so learns sooner what a picture is to show (Salimans & Ho 2022, §4).
    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, *, predicts: str = "eps", shape: tuple[int, ...] = (1, 28, 28)
    ) -> None:
        super().__init__()
        if predicts not in ("eps", "v"):
            raise ValueError(f"a network predicts 'eps' or 'v', not {predicts!r}")
        self.network, self.schedule, self.predicts, self.shape = network, schedule, predicts, shape

    def epsilon(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The ε (B, …) that the network sees in x_t at the times t (B,) in [0, 1], whatever it `predicts`."""
        predicted = self.network(x_t, t, y)
        if self.predicts == "eps":
            return predicted
        signal, sigma = self.schedule.scales((t * self.schedule.T).round().long(), x_t)
        return signal * predicted + sigma * x_t

    def corrupt(self, x0: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a step an example: x_t (B, …), t / T (B,), and what the network is to predict (B, …)."""
        step, eps = 1 + noise.integers(self.schedule.T, len(x0)), noise.normal(*x0.shape)
        signal, sigma = self.schedule.scales(step, x0)
        target = eps if self.predicts == "eps" else signal * eps - sigma * x0
        return self.schedule.q_sample(x0, step, eps), step / self.schedule.T, target

    def sample(
        self, n: int, noise: Noise, *, y: Tensor | None = None, guidance: float = 1.0, steps: int = 50, eta: float = 0.0
    ) -> Tensor:
        """Draw n pictures with `ddim`: (n, C, H, W) in [0, 1]. With eta=1 and steps=T this is DDPM.

        They show y, classes (n,) or vectors (n, F); without y, any classes, if the network knows some.
        """
        x = noise.normal(n, *self.shape)
        y = _any_class(self.network, n, noise) if y is None else y
        x = ddim(self.epsilon, self.schedule, x, noise, y=y, guidance=guidance, steps=steps, eta=eta)
        return ((x + 1) / 2).clamp(0, 1)


class Flow(nn.Module):
    """Flow matching on straight paths x_t = (1 − t) x_0 + t ε: the `network` predicts their velocity, ε − x_0.

    Time runs as in diffusion, from picture to noise; in Lipman et al. 2023 (§4.1, with σ_min = 0) it runs the other way.
    """

    def __init__(self, network: nn.Module, *, shape: tuple[int, ...] = (1, 28, 28)) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def corrupt(self, x0: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a time an example: x_t (B, …), t (B,) in [0, 1), and ε − x_0 (B, …), which the network is to predict."""
        t, eps = noise.uniform(len(x0)), noise.normal(*x0.shape)
        return torch.lerp(x0, eps, _beside(t, x0)), t, eps - x0

    def sample(
        self, n: int, noise: Noise, *, y: Tensor | None = None, guidance: float = 1.0, steps: int = 25, heun: bool = True
    ) -> Tensor:
        """Draw n pictures with `flow`: (n, C, H, W) in [0, 1]; y as in `Diffusion.sample`."""
        x, y = noise.normal(n, *self.shape), _any_class(self.network, n, noise) if y is None else y
        x = flow(self.network, x, y=y, guidance=guidance, steps=steps, heun=heun)
        return ((x + 1) / 2).clamp(0, 1)
