from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genai_lib import Noise, objectives
from genai_lib.data import emoji_names, load
from genai_lib.data.steps import disturb
from genai_lib.models.clip import CLIP, TextToPicture, encode_text, pieces
from genai_lib.recipes import emoji
from genai_lib.recipes.core import Effort

BY_NAME = {recipe.name: recipe for recipe in emoji.RECIPES}


def everything():
    """All pictures, the training pictures first, and their row by English name."""
    rows = {e.english: i for i, e in enumerate(emoji_names() + emoji_names("test"))}
    return torch.cat([load("emoji").x, load("emoji", "test").x]), rows


class Pooled:
    """A judge without training: each picture in blocks of 4 × 4, less white."""

    def features(self, x):
        return 10 * (F.avg_pool2d(x, 4) - 0.8).flatten(1)


# ---------------------------------------------------------------- texts


def test_a_synonym_says_something_that_the_name_does_not():
    (person,) = (e for e in emoji_names("test") if e.english == "astronaut")
    assert emoji.synonyms(person) == ["rocket", "space"]
    for e in emoji_names() + emoji_names("test"):
        assert all(pieces(tag) and tag.casefold() not in e.english.casefold() for tag in emoji.synonyms(e))


def test_one_synonym_of_a_picture_that_has_several_is_kept_back():
    kept = [(e, emoji.kept_back(e)) for e in emoji_names()]
    assert all((tag == "") == (len(emoji.synonyms(e)) < 2) for e, tag in kept)
    assert all(tag in emoji.synonyms(e) for e, tag in kept if tag)
    places = [emoji.synonyms(e).index(tag) / (len(emoji.synonyms(e)) - 1) for e, tag in kept if tag]
    assert len(places) > 1_000
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.05)  # not always the first, nor the last


def test_training_never_pairs_a_picture_with_the_synonym_kept_back():
    for e in emoji_names():
        said = {part.strip() for text in emoji.texts(e) for part in text.split(",")}
        assert emoji.kept_back(e) not in said - {""}
        assert {e.english.split(",")[0].strip(), *emoji.synonyms(e)} - {emoji.kept_back(e)} <= said


def test_a_picture_is_called_by_names_and_tags_alone_and_together():
    e = emoji_names()[0]._replace(english="grinning face", chinese="嘿嘿", tags=["happy", "?", "smile"], chinese_tags=["脸"])
    kept = emoji.kept_back(e)
    (other,) = {"happy", "smile"} - {kept}
    expected = ["grinning face", other, f"grinning face, {other}", "嘿嘿", "脸", "嘿嘿, 脸"]
    assert emoji.texts(e) == expected
    assert emoji.texts(e._replace(tags=[], chinese_tags=[])) == ["grinning face", "嘿嘿"]


def test_the_rows_of_the_data_are_pictures_and_the_numbers_of_their_texts():
    x, numbers = emoji.named_pictures(torch.device("cpu"))
    words = ["", *emoji.vocabulary()]
    assert list(emoji.vocabulary().values()) == list(range(1, len(words)))
    assert torch.equal(x, load("emoji").x)
    for row, e in zip(numbers.tolist(), emoji_names(), strict=True):
        assert [words[i] for i in row if i] == emoji.texts(e)
    tokens = emoji._tokens(97)
    assert tokens[0].sum() == 0
    assert len(tokens) == len(words)
    assert torch.equal(tokens[7][tokens[7] > 0], encode_text([words[7]], buckets=97)[0])


def test_each_text_of_a_picture_is_chosen_equally_often():
    numbers = torch.tensor([[5, 6, 7, 0], [9, 0, 0, 0], [1, 2, 3, 4]]).repeat(2_003, 1)
    chosen = emoji.one_text(numbers, Noise(0)).view(2_003, 3)
    for column, allowed in zip(chosen.T, ([5, 6, 7], [9], [1, 2, 3, 4]), strict=True):
        share = torch.tensor([(column == number).double().mean() for number in allowed])
        assert share.sum() == pytest.approx(1)
        assert ((share - 1 / len(allowed)).abs() < 0.055).all()  # five standard errors


# ---------------------------------------------------------------- players


def players(name, **options):
    torch.manual_seed(0)
    model = BY_NAME[name].build().train()
    return model, BY_NAME[name].players(model, Effort(epochs=1, **options), 10)


def batch(rows):
    return tuple(t[rows] for t in emoji.named_pictures(torch.device("cpu")))


def test_a_text_that_suits_two_pictures_is_no_wrong_answer(monkeypatch):
    """Hearts share the tag "heart": where it is drawn, the other heart must not be pushed away."""
    seen = {}

    def spy(similarity, *, known):
        seen["known"] = known
        return objectives.contrastive_loss(similarity, known=known)

    monkeypatch.setattr(emoji, "contrastive_loss", spy)
    names = [e.english for e in emoji_names()]
    x, numbers = batch([names.index(name) for name in ("red heart", "green heart", "red circle")])
    heart = emoji.vocabulary()["heart"]
    monkeypatch.setattr(emoji, "one_text", lambda numbers, noise: torch.tensor([[heart], [numbers[1, 0]], [numbers[2, 0]]]))
    _, (player,) = players("clip")
    assert player.loss((x, numbers), Noise(0))["loss"].isfinite()
    assert seen["known"].tolist() == [[True, True, False], [False, True, False], [False, False, True]]


def test_the_pictures_the_towers_learn_from_are_disturbed(monkeypatch):
    model, (player,) = players("clip")
    shown = []
    model.body.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    x, numbers = batch(slice(0, 7))
    player.loss((x, numbers), Noise(3))
    noise = Noise(3)
    emoji.one_text(numbers, noise)
    assert torch.equal(shown[0], disturb(x, noise))


def test_real_and_made_pictures_are_disturbed_before_the_discriminator_sees_them():
    model, (discriminator, generator) = players("emoji-gan")
    shown = []
    model.discriminator.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    x, numbers = batch(slice(0, 31))
    discriminator.loss((x, numbers), Noise(0))
    noise = Noise(0)
    assert torch.equal(shown[0], disturb(2 * x - 1, noise, pixels=4))
    made = model.generator(noise.normal(31, model.generator.latent))
    torch.testing.assert_close(shown[1], disturb(made, noise, pixels=4))
    assert not shown[1].requires_grad
    shown.clear()
    generator.loss((x, numbers), Noise(0))["loss"].backward()
    assert shown[0].requires_grad
    assert all(p.grad.abs().sum() > 0 for p in model.generator.parameters())


def test_a_vae_of_colours_learns_its_width_with_the_rest():
    model, (player,) = players("emoji-vae")
    assert sum(p.numel() for p in model.parameters()) <= 250_000
    found = player.loss(batch(slice(0, 31)), Noise(0))
    found["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    torch.testing.assert_close(found["loss"], found["reconstruction"] + found["kl"])
    # The width goes where the error is: up where σ² is less than the squared error, down where it is more.
    for log_sigma, sign in ((-5.0, -1), (2.0, 1)):
        with torch.no_grad():
            model.log_sigma.fill_(log_sigma)
        (slope,) = torch.autograd.grad(player.loss(batch(slice(0, 31)), Noise(0))["loss"], model.log_sigma)
        assert slope.sign() == sign


def test_the_vae_learns_from_pictures_moved_and_mirrored_in_their_own_colours(monkeypatch):
    _, (player,) = players("emoji-vae")
    shown = []
    monkeypatch.setattr(emoji, "colour_elbo", lambda model, x, noise: shown.append(x) or objectives.ELBO(*torch.zeros(3, 31)))
    x, numbers = batch(slice(0, 31))
    player.loss((x, numbers), Noise(0))
    assert torch.equal(shown[0], disturb(x, Noise(0), pixels=1, colour=0.0))
    torch.testing.assert_close(255 * shown[0], (255 * shown[0]).round(), atol=1e-3, rtol=0)  # still levels of grey


def test_the_bound_of_a_vae_of_colours_is_the_gaussians_by_hand():
    model, _ = players("emoji-vae")
    x = batch(slice(0, 7))[0]
    found = emoji.colour_elbo(model, x, Noise(0))
    mu, logvar = model.encode(x)
    mean = model.decode(mu + (0.5 * logvar).exp() * Noise(0).normal(*mu.shape)).sigmoid()
    by_torch = torch.distributions.Normal(mean, model.log_sigma.exp()).log_prob(x).flatten(1).sum(dim=1)
    torch.testing.assert_close(found.reconstruction, -by_torch)
    torch.testing.assert_close(found.elbo, by_torch - objectives.gaussian_kl(mu, logvar))


def test_the_painters_two_parts_learn_from_one_loss():
    model, (player,) = players("emoji-diffusion")
    assert sum(p.numel() for p in model.parameters()) <= 990_000
    with torch.no_grad():  # the network's last layers start at 0, and let no gradient through
        for p in model.diffusion.network.parameters():
            p.add_(0.1)
    loss = player.loss(batch(slice(0, 31)), Noise(0))["loss"]
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_an_untrained_painter_pays_about_one_a_pixel():
    """v has variance 1 where the picture has; white ground has a little more."""
    _, (player,) = players("emoji-diffusion")
    with torch.no_grad():
        found = torch.stack([player.loss(batch(slice(0, 31)), Noise(0, i))["loss"] for i in range(5)]).mean()
    x = 2 * load("emoji").x[:31] - 1
    assert 0.7 < found < 1.3 * max(1.0, x.square().mean().item())


# ---------------------------------------------------------------- figures


def test_the_colour_of_pictures_whose_colour_is_known():
    x, row = everything()
    asked = [f"{colour} {shape}" for colour in emoji.COLOURS for shape in ("circle", "heart", "square")]
    seen = emoji.main_colour(x[[row[name] for name in asked]])
    assert seen.tolist() == torch.arange(7).repeat_interleave(3).tolist()
    assert emoji.main_colour(x[[row["white circle"], row["black circle"]]]).tolist() == [-1, -1]
    assert emoji.main_colour(torch.zeros(2, 3, 32, 32)).tolist() == [-1, -1]


def test_a_few_coloured_pixels_decide_beside_many_grey_ones():
    x, row = everything()
    y = torch.ones(1, 3, 32, 32)
    y[:, :, 5:7, 3:5] = x[row["green circle"], :, 16, 16, None, None]
    y[:, :, 20, 20] = x[row["red circle"], :, 16, 16]
    assert emoji.main_colour(y).item() == emoji.COLOURS.index("green")


def test_the_figures_of_real_pictures_and_of_bad_ones():
    x, _ = everything()
    train, test = x[:1_485], x[1_485:]
    noise = Noise(0)
    drawn = {
        "train": train[::3], "test": test, "mean": x.mean(dim=0, keepdim=True).expand(300, -1, -1, -1),
        "blurred": F.avg_pool2d(F.pad(train[::3], [4] * 4, value=1.0), 9, stride=1), "fog": noise.uniform(300, 3, 32, 32),
    }  # fmt: skip
    found = {name: emoji.emoji_quality(pictures, Pooled()) for name, pictures in drawn.items()}
    assert 5 * abs(found["train"]["kid"]) < min(found[name]["kid"] for name in ("mean", "blurred", "fog"))
    assert found["train"]["copies"] == 1.0
    assert found["test"]["copies"] <= 2 / 159  # the one or two that set the measure
    assert found["mean"]["diversity"] == pytest.approx(1, abs=1e-3)
    assert found["test"]["diversity"] > 1.5


class Remembers(CLIP):
    """Knows the emoji by heart: a picture is the row it stands in, and so is an English name. Other texts it does not know."""

    def __init__(self):
        super().__init__()
        x, rows = everything()
        self.seen = {tuple(v.flatten().tolist()): i for i, v in enumerate(x)}
        self.names = {tuple(t[t > 0].tolist()): i for t, i in zip(encode_text(list(rows)), rows.values(), strict=True)}

    def pictures(self, x):
        return F.one_hot(torch.tensor([self.seen[tuple(v.flatten().tolist())] for v in x]), 1_644).float()

    def texts(self, tokens):
        known = torch.tensor([self.names.get(tuple(t[t > 0].tolist()), -1) for t in tokens])
        return F.one_hot(known.clamp(min=0), 1_644).float() * (known >= 0)[:, None]


def test_the_figures_of_two_towers_that_know_the_names():
    found = emoji._clip_quality(Remembers(), None)
    # Not quite 1: a bag of pieces is blind to signs, as in "keycap: #" and "keycap: *".
    assert 0.97 < found["recall@1, English name"] <= found["recall@10, English name"] <= 1.0
    assert found["recall@10, picture to name"] > 0.97
    assert set(found) == {
        "recall@1, English name", "recall@10, English name", "recall@10, picture to name", "recall@10, Chinese name",
        "recall@10, one synonym", "recall@10, all synonyms", "recall@10, name and tags", "recall@10, synonym kept back",
    }  # fmt: skip
    # No Chinese name is known: ten of the 159 pictures are named by the order in which they stand.
    assert found["recall@10, Chinese name"] == pytest.approx(10 / 159, abs=0.02)


def test_two_towers_that_know_nothing_find_by_chance():
    torch.manual_seed(0)
    found = emoji._clip_quality(CLIP().eval(), None)
    for name, value in found.items():
        chance = {"recall@1, English name": 1 / 159, "recall@10, synonym kept back": 10 / 1_644}.get(name, 10 / 159)
        assert abs(value - chance) < 0.06, name


class Copyist(TextToPicture):
    """Draws the emoji itself, whose name a prompt begins with."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.asked = []

    def sample(self, n, noise, *, prompt=None, guidance=3.0, steps=25):
        x, rows = everything()
        named = {emoji.whole_text(e): rows[e.english] for e in emoji_names() + emoji_names("test")}
        self.asked.append((n, guidance))
        return x[[rows.get(p, named.get(p)) for p in prompt]]


def test_the_figures_of_a_painter_that_draws_what_is_asked():
    torch.manual_seed(0)
    judge, painter = CLIP().eval(), Copyist()
    found = emoji._drawing_quality(painter, judge)
    assert found["asked colour seen"] == 1.0
    assert found["copies"] == 1.0
    assert abs(found["kid"]) < 0.05
    assert set(found) == {"kid", "diversity", "copies", "clip score", "clip score, other prompts", "recall@10, prompt",
                          "recall@10, known prompt", "asked colour seen"}  # fmt: skip
    assert painter.asked == [(63, 3.0), (159, 3.0), (495, 1.0)]
    assert found["recall@10, prompt"] == pytest.approx(10 / 159, abs=0.06)  # the judge knows nothing
    assert found["clip score"] == pytest.approx(found["clip score, other prompts"], abs=0.05)


def test_a_painter_without_a_judge_has_no_figures():
    assert emoji._drawing_quality(Copyist(), None) == {}


@pytest.mark.parametrize("name", ["emoji-gan", "emoji-vae", "emoji-diffusion"])
def test_a_product_draws_small_colour_pictures(name):
    torch.manual_seed(0)
    recipe = BY_NAME[name]
    product = recipe.product(recipe.build()).eval()
    drawn = product.sample(3, Noise(0))
    assert (drawn.shape, drawn.dtype) == ((3, 3, 32, 32), torch.float32)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert not drawn.requires_grad
    assert recipe.judge == "clip"


def test_the_figures_of_a_product_are_those_of_a_thousand_samples():
    product = BY_NAME["emoji-gan"].product(BY_NAME["emoji-gan"].build()).eval()
    found = emoji._sampled_quality(product, Pooled())
    assert found == emoji.emoji_quality(product.sample(1_000, Noise(0)), Pooled())
    assert emoji._sampled_quality(product, None) == {}


def test_the_figures_of_a_vae_are_those_of_samples_and_of_rebuilt_pictures():
    product = BY_NAME["emoji-vae"].build().eval()
    x = load("emoji", "test").x
    error = (product.reconstruct(x) - x).detach().square().mean(dim=(1, 2, 3))
    found = emoji._vae_quality(product, Pooled())
    assert found.pop("psnr, rebuilt") == pytest.approx((-10 * error.log10()).mean().item(), abs=1e-4)
    assert found == emoji._sampled_quality(product, Pooled())
    assert set(emoji._vae_quality(product, None)) == {"psnr, rebuilt"}
