from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import same_layers
from torch import nn

from genai_lib import Noise
from genai_lib.models.gan import GAN, Generator, dcgan, mlp_gan

BUILDERS = {"mlp": mlp_gan, "dcgan": dcgan}


def build(name, seed=0):
    torch.manual_seed(seed)
    return BUILDERS[name]().eval()


@pytest.mark.parametrize("name, latent", [("mlp", 100), ("dcgan", 64)])
@pytest.mark.parametrize("batch", [1, 7])
def test_shapes_types_and_ranges(name, latent, batch):
    gan = build(name)
    assert gan.generator.latent == latent
    made = gan.generator(3 * Noise(0).normal(batch, latent))
    assert (made.shape, made.dtype) == ((batch, 1, 28, 28), torch.float32)
    assert made.abs().max() <= 1
    assert made.requires_grad
    assert gan.discriminator(made).shape == (batch,)
    drawn = gan.sample(batch, Noise(1))
    assert (drawn.shape, drawn.dtype, drawn.requires_grad) == ((batch, 1, 28, 28), torch.float32, False)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    torch.testing.assert_close(drawn, (gan.generator(Noise(1).normal(batch, latent)) + 1) / 2)
    assert torch.equal(drawn, gan.generator.sample(batch, Noise(1)))


def test_samples_fill_the_whole_range():
    generator = Generator(nn.Unflatten(1, (1, 1, 2)), 2)
    z = Noise(0).normal(3, 2)
    torch.testing.assert_close(generator.sample(3, Noise(0)), ((z + 1) / 2).view(3, 1, 1, 2))  # −1 → 0, +1 → 1


@pytest.mark.parametrize("latent, width", [(3, 5), (7, 11)])
def test_sizes_can_be_chosen(latent, width):
    for gan in (mlp_gan(latent=latent), dcgan(latent=latent, width=width)):
        assert gan.sample(5, Noise(0)).shape == (5, 1, 28, 28)
        assert gan.discriminator(torch.zeros(5, 1, 28, 28)).shape == (5,)


def test_the_fully_connected_pair_is_the_articles():
    gan = mlp_gan()
    shapes = [tuple(p.shape) for p in gan.parameters()]
    assert shapes == [(256, 100), (512, 256), (784, 512), (512, 784), (256, 512), (1, 256)]  # and no biases


def test_the_convolutional_pair_layer_by_layer():
    halve = {"kernel_size": 4, "stride": 2, "padding": 1}
    gan, leaky = dcgan(), nn.LeakyReLU(0.2)
    assert same_layers(
        gan.generator.layers,
        nn.Linear(64, 6272, bias=False), nn.Unflatten(1, (128, 7, 7)), nn.BatchNorm2d(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, **halve, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 1, **halve), nn.Tanh(),
    )  # fmt: skip
    first, second = nn.Conv2d(1, 32, **halve), nn.Conv2d(32, 64, **halve, bias=False)
    assert same_layers(gan.discriminator.features, first, leaky, second, nn.BatchNorm2d(64), leaky, nn.Flatten())
    critic, second = dcgan(normalised=False).discriminator, nn.Conv2d(32, 64, **halve)
    assert same_layers(critic.features, first, leaky, second, nn.Identity(), leaky, nn.Flatten())
    assert repr(critic.head) == repr(gan.discriminator.head) == repr(nn.Linear(3136, 1))


def test_the_fully_connected_pair_layer_by_layer():
    def dense(*sizes):
        for before, after in pairwise(sizes):
            yield from (nn.Linear(before, after, bias=False), nn.LeakyReLU(0.2))

    torch.manual_seed(0)
    gan = mlp_gan()
    *hidden, _ = dense(100, 256, 512, 784)
    assert same_layers(gan.generator.layers, *hidden, nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))
    assert same_layers(gan.discriminator.features, nn.Flatten(), *dense(784, 512, 256))
    for weight in gan.parameters():  # He et al. 2015: behind a leaky rectifier a signal keeps its size
        std = (2 / (1 + 0.2**2) / weight.shape[1]) ** 0.5
        assert weight.std().item() == pytest.approx(std, rel=6 / (2 * weight.numel()) ** 0.5)  # six standard errors


@pytest.mark.parametrize("classes", [0, 3])
def test_both_players_know_as_many_classes_as_they_were_given(classes):
    gan = dcgan(classes=classes, width=5, latent=11)
    tables = [tuple(p.shape) for name, p in gan.named_parameters() if "embedding" in name]
    assert gan.generator.classes == classes
    assert tables == ([(3, 11), (3, 490)] if classes else [])


def test_the_discriminator_gives_logits_not_probabilities():
    for name in BUILDERS:
        discriminator = build(name).discriminator
        assert not any(isinstance(m, nn.Sigmoid) for m in discriminator.modules())
        logits = discriminator(100 * Noise(0).normal(101, 1, 28, 28))
        assert ((logits < 0) | (logits > 1)).any()


@pytest.mark.parametrize("seed", range(5))
def test_first_weights_have_the_papers_deviation(seed):
    torch.manual_seed(seed)
    weights = [m.weight for m in dcgan().modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert len(weights) == 6
    for w in weights:
        assert w.std().item() == pytest.approx(0.02, rel=6 / (2 * w.numel()) ** 0.5)  # six standard errors
        assert abs(w.mean().item()) < 6 * 0.02 / w.numel() ** 0.5


@pytest.mark.parametrize("name", BUILDERS)
@given(n=st.sampled_from([1, 2, 3, 5, 7, 11]), seed=st.integers(0, 50))
def test_the_order_of_the_batch_does_not_matter(name, n, seed):
    gan, order = build(name), Noise(seed, 1).permutation(n)
    z, x = Noise(seed).normal(n, gan.generator.latent), Noise(seed, 2).normal(n, 1, 28, 28)
    torch.testing.assert_close(gan.generator(z[order]), gan.generator(z)[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gan.discriminator(x[order]), gan.discriminator(x)[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_same_key_draws_the_same_pictures(name):
    gan = build(name)
    assert torch.equal(gan.sample(7, Noise(4)), gan.sample(7, Noise(4)))
    assert not torch.equal(gan.sample(7, Noise(4)), gan.sample(7, Noise(5)))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_gradient_passes_from_the_logit_to_the_generators_first_layer(name):
    gan = build(name).train()
    gan.discriminator(gan.generator(Noise(0).normal(7, gan.generator.latent))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in gan.parameters())
    assert next(gan.generator.parameters()).grad.abs().sum() > 0


def test_a_gan_holds_both_players_and_nothing_else():
    gan = GAN(Generator(nn.Linear(2, 2), 2), nn.Linear(2, 1))
    assert sorted(gan.state_dict()) == [
        "discriminator.bias", "discriminator.weight", "generator.layers.bias", "generator.layers.weight"
    ]  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_bf16_stays_close_to_fp32(name):
    gan, z = build(name), Noise(0).normal(7, BUILDERS[name]().generator.latent)
    exact, logits = gan.generator(z), gan.discriminator(Noise(1).normal(7, 1, 28, 28))
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_logits = gan.generator(z), gan.discriminator(Noise(1).normal(7, 1, 28, 28))
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0)  # bf16 keeps 8 bits; three layers
    torch.testing.assert_close(rough_logits.float(), logits, atol=0.05, rtol=0.02)


# ---------------------------------------------------------------- told the class, in colour, without a norm


def test_a_colour_pair_makes_and_judges_colour_pictures():
    gan = dcgan(size=32, channels=3, width=5).eval()
    drawn = gan.sample(7, Noise(0))
    assert drawn.shape == (7, 3, 32, 32)
    assert gan.discriminator(drawn).shape == (7,)


def test_a_side_that_cannot_be_halved_twice_is_refused():
    with pytest.raises(ValueError, match="the side of a picture must be a multiple of 4, got 30"):
        dcgan(size=30)


def test_a_conditional_generator_draws_the_classes_it_is_asked_for():
    torch.manual_seed(0)
    generator = dcgan(classes=3, width=5).generator.eval()
    y = torch.tensor([0, 1, 2, 0, 1])
    drawn = generator.sample(5, Noise(0), y=y)
    z = Noise(0).normal(5, 64)
    torch.testing.assert_close(drawn, (generator.layers(z * generator.embedding.weight[y]) + 1) / 2)
    assert not torch.allclose(drawn, generator.sample(5, Noise(0), y=(y + 1) % 3))
    assert torch.equal(generator.sample(5, Noise(0)), generator.sample(5, Noise(0)))  # unasked, it chooses classes itself


def test_a_conditional_discriminator_adds_the_projection_on_the_class():
    torch.manual_seed(0)
    told = dcgan(classes=3, width=5).discriminator.eval()
    x, y = Noise(1).normal(7, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    torch.testing.assert_close(told(x, y), told.head(told.features(x))[:, 0])  # it begins by ignoring the class
    nn.init.normal_(told.embedding.weight)
    h = told.features(x)
    expected = [told.head(h[i]).squeeze() + told.embedding.weight[y[i]] @ h[i] for i in range(7)]
    torch.testing.assert_close(told(x, y), torch.stack(expected))


@pytest.mark.parametrize("normalised", [True, False])
def test_without_the_norm_a_picture_is_judged_alone(normalised):
    """In training mode: the gradient penalty needs each picture's own slope."""
    critic = dcgan(width=5, normalised=normalised).discriminator.train()
    x = Noise(0).normal(4, 1, 28, 28).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x)[0], x)
    alone = slope[1:].abs().max().item() == 0
    assert alone is not normalised
