"""Recipes of the emoji: pictures and their names brought together, and new pictures, from noise or from a text.

No classifier knows them: KID, diversity and the fit of picture and text are judged by the shipped two-tower model. It has
seen the training pictures, so its figures are not comparable with those of the digits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

from genai_lib import metrics
from genai_lib.data import emoji_names, load
from genai_lib.data.steps import disturb
from genai_lib.data.texts import Emoji
from genai_lib.models.clip import CLIP, TextToPicture, TextTower, encode_text, pieces
from genai_lib.models.diffusion import Diffusion, Schedule
from genai_lib.models.gan import Generator, dcgan
from genai_lib.models.unet import UNet
from genai_lib.models.vae import GaussianVAE, conv_vae
from genai_lib.noise import Noise
from genai_lib.objectives import ELBO, contrastive_loss, denoising_loss, elbo, gaussian_nll
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, one_player
from genai_lib.recipes.gan import game

BUCKETS = 4096  # of the tower that steers the drawing: its file holds a U-Net too
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "brown"]

# ---------------------------------------------------------------- texts


def synonyms(emoji: Emoji) -> list[str]:
    """The English tags that say something and are no part of the name."""
    return [tag for tag in emoji.tags if pieces(tag) and tag.casefold() not in emoji.english.casefold()]


def kept_back(emoji: Emoji) -> str:
    """The synonym of a training picture that training never pairs with it, one of two or more by its code point; else none."""
    tags = synonyms(emoji)
    return tags[zlib.crc32(emoji.hexcode.encode()) % len(tags)] if len(tags) > 1 else ""


def texts(emoji: Emoji) -> list[str]:
    """All that a training picture is called: its names, its tags one by one and together, in English and Chinese."""
    found = []
    for name, tags in ((emoji.english, emoji.tags), (emoji.chinese, emoji.chinese_tags)):
        tags = [tag for tag in tags if tag != kept_back(emoji) and pieces(tag)]
        found += [name, *tags, ", ".join(tags), ", ".join([name, *tags])]
    return [text for text in dict.fromkeys(found) if pieces(text)]


def numbered(pictures: Sequence[Emoji]) -> tuple[dict[str, int], Tensor]:
    """The texts of some pictures, numbered from 1, and the numbers of each picture's texts (N, K), filled up with 0."""
    stock = {text: i for i, text in enumerate(dict.fromkeys(t for emoji in pictures for t in texts(emoji)), start=1)}
    rows = [torch.tensor([stock[text] for text in texts(emoji)]) for emoji in pictures]  # (K,) each
    return stock, nn.utils.rnn.pad_sequence(rows, batch_first=True)


@cache
def vocabulary() -> dict[str, int]:
    """The training texts, numbered from 1."""
    return numbered(emoji_names())[0]


def named_pictures(device: torch.device) -> tuple[Tensor, ...]:
    """The 1,485 training pictures (N, 3, 32, 32) and the numbers of their texts (N, K), filled up with 0."""
    return load("emoji", device=device).x, numbered(emoji_names())[1].to(device)


@cache
def _tokens(buckets: int) -> Tensor:
    return nn.functional.pad(encode_text(list(vocabulary()), buckets=buckets), (0, 0, 1, 0))  # row 0: no text


def whole_text(emoji: Emoji) -> str:
    """The English name and all English tags, as a prompt."""
    return ", ".join([emoji.english, *emoji.tags])


def one_text(numbers: Tensor, noise: Noise) -> Tensor:
    """Choose one of each picture's texts (B, K): (B, 1)."""
    count = (numbers > 0).sum(dim=1, keepdim=True)  # (B, 1)
    return numbers.gather(1, (noise.uniform(len(numbers), 1) * count).long())


# ---------------------------------------------------------------- losses


def _clip_loss(model: CLIP, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    x, numbers = batch
    chosen = one_text(numbers, noise)
    known = (chosen[..., None] == numbers).any(dim=2)  # (B, B): is text i among picture j's?
    similarity = model(disturb(x, noise), _tokens(model.text.buckets).to(x.device)[chosen[:, 0]])
    return {"loss": contrastive_loss(similarity, known=known).mean()}


def colour_elbo(model: GaussianVAE, x: Tensor, noise: Noise) -> ELBO:
    """The bound of a Gaussian decoder with its learned σ: a log-density of pixels in [0, 1], (B,) nats each."""
    return elbo(model, x, noise, nll=lambda y, x: gaussian_nll(y.sigmoid(), x, sigma=model.log_sigma.exp()))


def _vae_loss(model: GaussianVAE, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    bound = colour_elbo(model, disturb(batch[0], noise, pixels=1, colour=0.0), noise)
    return {"loss": bound.loss(), "reconstruction": bound.reconstruction.mean(), "kl": bound.kl.mean()}


def _drawing_loss(model: TextToPicture, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    x, numbers = batch
    y = model.tell(_tokens(model.text.buckets).to(x.device)[one_text(numbers, noise)[:, 0]])  # (B, F)
    x = disturb(x, noise, pixels=1, colour=0.0, mirror=False)
    return {"loss": denoising_loss(model.diffusion, x, noise, y=y).mean() / x[0].numel()}


# ---------------------------------------------------------------- figures


def _clip_quality(model: CLIP, judge: Judge | None) -> Quality:
    """Recall among the 159 test pictures, 10 of which are 6 %; of the synonyms kept back, among all 1,644."""
    new = emoji_names("test")
    every = metrics.in_batches(model.pictures, torch.cat([load("emoji").x, load("emoji", "test").x]))  # (1644, F)
    x, english = every[-len(new) :], model.texts(encode_text([emoji.english for emoji in new]))  # (159, F) each

    def recall(asked: Callable[[Emoji], list[str]], emojis: list[Emoji] = new, x: Tensor = x, *, k: int = 10) -> float:
        pairs = [(i, text) for i, emoji in enumerate(emojis) for text in asked(emoji) if text]
        right = nn.functional.one_hot(torch.tensor([i for i, _ in pairs]), len(x)).bool()
        return metrics.recall_at(model.texts(encode_text([text for _, text in pairs])) @ x.T, right, k=k)

    return {
        "recall@1, English name": recall(lambda emoji: [emoji.english], k=1),
        "recall@10, English name": recall(lambda emoji: [emoji.english]),
        "recall@10, picture to name": metrics.recall_at(x @ english.T, torch.eye(len(x)).bool(), k=10),
        "recall@10, Chinese name": recall(lambda emoji: [emoji.chinese]),
        "recall@10, one synonym": recall(synonyms),
        "recall@10, all synonyms": recall(lambda emoji: [", ".join(synonyms(emoji))]),
        "recall@10, name and tags": recall(lambda emoji: [whole_text(emoji)]),
        "recall@10, synonym kept back": recall(lambda emoji: [kept_back(emoji)], emoji_names(), every),
    }


def emoji_quality(drawn: Tensor, judge: Judge) -> Quality:
    """KID against all 1,644 pictures; effective number of different pictures; share that copies a training picture."""
    train, test = load("emoji").x, load("emoji", "test").x
    real, made = (metrics.in_batches(judge.features, x) for x in (torch.cat([train, test]), drawn))
    copies = metrics.memorisation(drawn, train, test).copies
    return {"kid": metrics.kid(made, real), "diversity": metrics.vendi_score(made), "copies": copies}


def _sampled_quality(model: Generator | GaussianVAE, judge: Judge | None) -> Quality:
    return emoji_quality(model.sample(1_000, Noise(0)), judge) if judge is not None else {}


def _vae_quality(model: GaussianVAE, judge: Judge | None) -> Quality:
    """Besides the figures of samples: decibels of the reconstructions of test pictures. There the reference is at hand."""
    x = load("emoji", "test").x
    rebuilt = metrics.in_batches(model.reconstruct, x)
    return {"psnr, rebuilt": metrics.psnr(rebuilt, x).double().mean().item()} | _sampled_quality(model, judge)


def main_colour(x: Tensor) -> Tensor:
    """Which of the seven `COLOURS` most coloured pixels of each picture (B, 3, 32, 32) come closest to; −1 if none: (B,).

    Their tints are those in the middle of the training pictures "red circle", "red heart" and so on.
    """
    names = [emoji.english for emoji in emoji_names()]
    known = [names.index(f"{colour} {shape}") for shape in ("circle", "heart") for colour in COLOURS]
    tints = load("emoji").x[known, :, 16, 16]  # (14, 3)
    pixels = x.flatten(2).transpose(1, 2)  # (B, 1024, 3)
    coloured = pixels.amax(dim=2) - pixels.amin(dim=2) > 0.2  # neither ground nor outline
    nearest = torch.cdist(pixels, tints.expand(len(x), -1, -1)).argmin(dim=2) % 7  # (B, 1024)
    votes = (nn.functional.one_hot(nearest, 7) * coloured[..., None]).sum(dim=1)  # (B, 7)
    return torch.where(coloured.any(dim=1), votes.argmax(dim=1), -1)


def _drawing_quality(model: TextToPicture, judge: CLIP | None) -> Quality:
    """One picture for each test picture's text, three for each of seven colours and three shapes, guidance 3.

    KID, diversity and copies are those of 495 pictures of training texts without guidance.
    """
    if judge is None:
        return {}
    asked = [f"{colour} {shape}" for colour in COLOURS for shape in ("heart", "circle", "square")] * 3
    seen = main_colour(model.sample(len(asked), Noise(0, 1), prompt=asked))

    def fit(emojis: list[Emoji], noise: Noise, guidance: float) -> tuple[Tensor, Tensor]:
        prompts = [whole_text(emoji) for emoji in emojis]
        drawn = model.sample(len(prompts), noise, prompt=prompts, guidance=guidance)
        return drawn, judge.pictures(drawn) @ judge.texts(encode_text(prompts)).T  # (N pictures, N prompts)

    (_, new), (drawn, known) = fit(emoji_names("test"), Noise(0), 3.0), fit(emoji_names()[::3], Noise(0, 2), 1.0)
    right = torch.eye(len(new)).bool()
    return emoji_quality(drawn, judge) | {
        "clip score": new[right].mean().item(),
        "clip score, other prompts": new[~right].mean().item(),
        "recall@10, prompt": metrics.recall_at(new, right, k=10),
        "recall@10, known prompt": metrics.recall_at(known, torch.eye(len(known)).bool(), k=10),
        "asked colour seen": (seen == torch.arange(7).repeat_interleave(3).repeat(3)).double().mean().item(),
    }


def _text_to_picture() -> TextToPicture:
    diffusion = Diffusion(UNet(channels=3, depth=2, features=64), Schedule(), predicts="v", shape=(3, 32, 32))
    return TextToPicture(diffusion, TextTower(64, buckets=BUCKETS))


def _colour_vae() -> GaussianVAE:
    networks = conv_vae(latent=48, width=16, size=32, channels=3)
    return GaussianVAE(networks.encoder, networks.decoder, networks.latent)


RECIPES = [
    Recipe(
        "clip", "Two towers for emoji and their names in English and Chinese", CLIP,
        minute=Effort(epochs=125, batch_size=256, lr=4e-3, precision="bf16"),
        shipped=Effort(epochs=700, batch_size=256, lr=4e-3, precision="bf16"),
        quality=_clip_quality, players=one_player(_clip_loss), data=named_pictures,
    ),
    Recipe(
        "emoji-gan", "Deep convolutional GAN of emoji, with augmentation", partial(dcgan, size=32, channels=3, width=24),
        minute=Effort(epochs=25, batch_size=64, lr=5e-4, precision="bf16", ema=0.99),
        shipped=Effort(epochs=60, batch_size=64, lr=5e-4, precision="bf16", ema=0.995),
        quality=_sampled_quality, players=game(augment=partial(disturb, pixels=4)), product=lambda gan: gan.generator,
        data=named_pictures, judge="clip",
    ),
    Recipe(
        "emoji-vae", "Convolutional VAE of emoji, with a learned width of the error", _colour_vae,
        minute=Effort(epochs=12, batch_size=32, lr=4e-3, precision="bf16", beta2=0.99),
        shipped=Effort(epochs=300, batch_size=32, lr=4e-3, precision="bf16", beta2=0.99),
        quality=_vae_quality, players=one_player(_vae_loss, name="vae"), data=named_pictures, judge="clip",
    ),
    Recipe(
        "emoji-diffusion", "Diffusion model that draws emoji from a text", _text_to_picture,
        minute=Effort(epochs=15, batch_size=32, lr=2e-3, precision="bf16", beta2=0.99),
        shipped=Effort(epochs=150, batch_size=32, lr=2e-3, precision="bf16", beta2=0.99),
        quality=_drawing_quality, players=one_player(_drawing_loss, clip=1.0), data=named_pictures, judge="clip",
    ),
]  # fmt: skip
