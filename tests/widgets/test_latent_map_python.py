"""The latent map's Python side: what it copies from a model, what it stores, what it refuses.

What the browser draws from it is held against the same numbers in tests/book/test_latent_map.py.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import traitlets
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ipywidgets.embed import dependency_state
from torch import Tensor, nn

from genai_lib.models.vae import VAE, conv_vae, map_vae, mlp_vae
from genai_lib.widgets import LatentMap
from genai_lib.widgets.latent_map import POINT, STEPS_PER_UNIT, UNLABELLED

LAYERS = [2, 64, 64, 784]
PARAMETERS = 2 * 64 + 64 + 64 * 64 + 64 + 64 * 784 + 784


def small_vae(seed: int = 0) -> VAE:
    """3 × 3 pictures, layers 2 → 5 → 7 → 9: every matrix has its own shape, so a transposed one cannot pass."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    decoder = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 9), nn.Unflatten(1, (1, 3, 3)))
    return VAE(encoder, decoder, latent=2)


def rounded(vae: VAE) -> VAE:
    """The same model with its weights rounded to half precision, computing in single precision."""
    return vae.half().float()


def saved_state(widget: LatentMap) -> dict:
    """What ipywidgets itself writes into a notebook or page for this widget."""
    return dependency_state([widget], drop_defaults=False)[widget.model_id]


# ---------------------------------------------------------------- the copy


def test_the_copy_holds_each_matrix_row_by_row_then_its_bias_in_half_precision():
    vae = small_vae()
    widget = LatentMap.from_model(vae)
    assert widget.layers == [2, 5, 7, 9]
    want = np.concatenate([t.detach().numpy().ravel() for layer in (0, 2, 4)
                           for t in (vae.decoder[layer].weight, vae.decoder[layer].bias)])
    assert widget.weights == want.astype("<f2").tobytes()
    assert len(widget.weights) == 2 * (15 + 42 + 72)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("build", [small_vae, lambda seed: (torch.manual_seed(seed), map_vae())[1]], ids=["small", "map"])
def test_decode_is_torch_on_the_rounded_weights(build, seed):
    vae = build(seed)
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.mul_(3.0)  # logits of either sign and of some size
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(seed))
    widget = LatentMap.from_model(vae)
    with torch.no_grad():
        want = rounded(vae).decode(z).sigmoid()[:, 0].numpy()
    got = widget.decode(z.numpy())
    assert got.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=2e-6)
    np.testing.assert_allclose(widget.decode(z[7].numpy()), want[7], atol=2e-6)


def test_decode_without_an_argument_is_at_the_point():
    widget = LatentMap.from_model(small_vae(), z=(0.5, -1.25))
    assert widget.z == [0.5, -1.25]
    assert np.array_equal(widget.decode(), widget.decode([0.5, -1.25]))
    widget.z = [-2.0, 0.0]
    assert np.array_equal(widget.decode(), widget.decode([-2.0, 0.0]))
    assert not np.array_equal(widget.decode(), widget.decode([0.5, -1.25]))


def test_decode_neither_overflows_nor_warns_where_the_sigmoid_is_flat():
    layers = [2, 4]
    matrix, bias = np.zeros((4, 2)), np.array([-60000.0, -100.0, 100.0, 60000.0])
    widget = LatentMap(layers, np.concatenate([matrix.ravel(), bias]).astype("<f2").tobytes())
    np.testing.assert_array_equal(widget.decode([1.0, 1.0]), [[0, 0], [1, 1]])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 1, 2)])
def test_decode_refuses_a_z_of_another_shape(shape):
    with pytest.raises(ValueError, match=re.escape(f"z must have shape (2,) or (N, 2), got {shape}")):
        LatentMap.from_model(small_vae()).decode(np.zeros(shape))


def test_a_bare_decoder_will_do_and_a_missing_bias_counts_as_zero():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 5, bias=False), nn.ReLU(), nn.Linear(5, 9))
    widget = LatentMap.from_model(decoder)
    with torch.no_grad():
        want = rounded(decoder)(torch.tensor([0.3, 0.7])).sigmoid().numpy().reshape(3, 3)
    np.testing.assert_allclose(widget.decode([0.3, 0.7]), want, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_is_copied_too(dtype):
    vae = small_vae().to(dtype)
    widget = LatentMap.from_model(vae, torch.rand(4, 1, 3, 3))
    with torch.no_grad():
        want = rounded(vae).decode(torch.tensor([[1.0, -1.0]])).sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(widget.decode([1.0, -1.0]), want, atol=2e-6)


def test_making_a_map_leaves_the_model_as_it_was():
    vae = small_vae()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    LatentMap.from_model(vae, torch.rand(4, 1, 3, 3))
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert vae.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in vae.parameters())


# ---------------------------------------------------------------- the points


def test_points_are_the_posterior_means_in_steps_of_1_4096_with_their_labels():
    vae, x, y = small_vae(), torch.rand(6, 1, 3, 3), torch.tensor([3, 1, 4, 1, 5, 9])
    points = np.frombuffer(LatentMap.from_model(vae, x, y, max_points=5).points, dtype=POINT)
    with torch.no_grad():
        mu = vae.encode(x)[0].numpy()
    assert points["label"].tolist() == [3, 1, 4, 1, 5]
    for axis, name in enumerate("xy"):
        np.testing.assert_allclose(points[name] / STEPS_PER_UNIT, mu[:5, axis], atol=0.5 / STEPS_PER_UNIT + 1e-6)


def test_points_without_labels_are_marked_so_and_a_far_one_is_clipped_not_wrapped():
    vae = small_vae()
    with torch.no_grad():
        vae.encoder[1].weight.zero_()
        vae.encoder[1].bias.copy_(torch.tensor([100.0, -100.0, 0.0, 0.0]))
    points = np.frombuffer(LatentMap.from_model(vae, torch.rand(2, 1, 3, 3)).points, dtype=POINT)
    assert points["label"].tolist() == [UNLABELLED] * 2
    assert points["x"].tolist() == [32767] * 2
    assert points["y"].tolist() == [-32768] * 2


# ---------------------------------------------------------------- the state


def test_the_state_is_stored_once_as_bytes_and_is_small():
    vae = map_vae()
    widget = LatentMap.from_model(vae, torch.rand(1500, 1, 28, 28), torch.zeros(1500, dtype=torch.int64))
    assert widget.layers == LAYERS
    assert len(widget.weights) == 2 * PARAMETERS
    assert len(widget.points) == 5 * 1000
    state = saved_state(widget)
    assert sorted(buffer["path"] for buffer in state["buffers"]) == [["points"], ["weights"]]
    assert {buffer["encoding"] for buffer in state["buffers"]} == {"base64"}
    assert not {"points", "weights"} & set(state["state"])
    text = json.dumps(state)  # fails on anything that is not JSON
    assert json.loads(text)["state"]["z"] == widget.z
    data = 4 * math.ceil((2 * PARAMETERS + 5000) / 3)
    code = len(widget._esm) + len(widget._css)
    assert len(text) < 1.1 * (data + code) + 2000 < 200_000


def test_the_state_says_which_frontend_draws_it_and_carries_its_code():
    state = saved_state(LatentMap.from_model(small_vae()))
    assert (state["model_module"], state["model_name"]) == ("anywidget", "AnyModel")
    assert "export default" in state["state"]["_esm"]
    assert ".latent-map" in state["state"]["_css"]
    assert "http" not in state["state"]["_esm"] + state["state"]["_css"]
    assert {"layers", "extent", "z"} <= set(state["state"])


def test_the_cells_output_is_one_view_and_a_plain_line():
    widget = LatentMap.from_model(small_vae(), torch.rand(4, 1, 3, 3), z=(0.5, -1.25))
    assert repr(widget) == "LatentMap(decoder 2→5→7→9, 4 points, z = (0.50, -1.25))"
    bundle, *_ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == repr(widget)
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id


def test_z_is_the_one_trait_that_may_change_and_it_is_shared_with_the_browser():
    widget = LatentMap.from_model(small_vae())
    assert {"z", "layers", "weights", "points", "extent"} <= set(widget.keys)
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "z")
    widget.set_state({"z": [1.5, -0.25]})  # as a message from the browser would
    assert widget.z == [1.5, -0.25]
    assert seen == [[1.5, -0.25]]
    for name in ("layers", "weights", "points", "extent"):
        with pytest.raises(traitlets.TraitError, match=f'"{name}" trait is read-only'):
            setattr(widget, name, getattr(widget, name))


@given(st.tuples(st.floats(-3, 3), st.floats(-3, 3)))
def test_every_point_of_the_map_is_a_z(z):
    widget = LatentMap([2, 1], bytes(6))
    widget.z = list(z)
    assert widget.z == list(z)


@pytest.mark.parametrize("z", [[3.01, 0.0], [0.0, -4.0], [math.nan, 0.0], [0.0, math.inf]])
def test_a_z_off_the_map_is_refused_and_the_old_one_stays(z):
    widget = LatentMap.from_model(small_vae(), z=(1.0, 1.0))
    with pytest.raises(traitlets.TraitError, match="z must be two numbers on the map, each within ±3; got "):
        widget.z = z
    assert widget.z == [1.0, 1.0]
    with pytest.raises(traitlets.TraitError, match="z must be two numbers on the map"):
        LatentMap.from_model(small_vae(), z=z)


@pytest.mark.parametrize("z", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_z_of_another_length_is_refused(z):
    with pytest.raises(traitlets.TraitError, match="The 'z' trait"):
        LatentMap.from_model(small_vae(), z=z)


# ---------------------------------------------------------------- what it refuses


def chain(*layers: nn.Module) -> nn.Module:
    return VAE(nn.Identity(), nn.Sequential(*layers), latent=2)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: mlp_vae(latent=20, width=30), "must take 2 latent dimensions; its layers are [20, 30, 784]"),
    (lambda: mlp_vae(latent=2, width=400), "has 315,584 parameters; the page carries at most 60,000"),
    (lambda: conv_vae(latent=2, width=4), "layer 1 of the decoder is SiLU where ReLU was expected"),
    (lambda: chain(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 9)), "layer 1 of the decoder is Tanh where ReLU was expected"),
    (lambda: chain(nn.Linear(2, 4), nn.Linear(4, 9)), "layer 1 of the decoder is Linear where ReLU was expected"),
    (lambda: chain(nn.Conv2d(2, 4, 1)), "layer 0 of the decoder is Conv2d where Linear was expected"),
    (lambda: chain(nn.Linear(2, 9), nn.Sigmoid()), "layer 1 of the decoder is Sigmoid where ReLU was expected"),
    (lambda: chain(nn.Linear(2, 9), nn.ReLU()), "must end in a Linear layer that returns logits; it has 2 layers"),
    (lambda: chain(), "layer 0 of the decoder is Sequential where Linear was expected"),
    (lambda: chain(nn.Linear(2, 10)), "must end in the pixels of a square picture, such as 784; got 10"),
])
def test_a_decoder_the_browser_cannot_run_is_refused_with_a_way_out(build, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        LatentMap.from_model(build())
    assert str(caught.value).endswith("genai_lib.models.vae.map_vae() builds a model that fits.")


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="needs a model with a decoder of Linear and ReLU layers, got str"):
        LatentMap.from_model("vae")  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "shown"), [(1e5, "1e+05"), (math.inf, "inf"), (math.nan, "nan")])
def test_weights_that_half_precision_cannot_hold_are_refused(value, shown):
    vae = small_vae()
    with torch.no_grad():
        vae.decoder[2].weight[3, 1] = value
    with pytest.raises(ValueError, match=re.escape(f"has weights up to {shown}; half precision ends at 65504.")):
        LatentMap.from_model(vae)


def test_a_decoder_that_half_precision_changes_too_much_is_refused():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():  # 2000·z₁ + 2000·z₁ − 4000.7·z₁: rounding 4000.7 to 4000 changes the logit by 2.1 at z₁ = 3
        decoder[0].weight.copy_(torch.tensor([[2000.0, 0.0], [4000.7, 0.0]]))
        decoder[0].bias.zero_()
        decoder[2].weight.copy_(torch.tensor([[2.0, -1.0]]))
        decoder[2].bias.zero_()
    with pytest.raises(ValueError, match=r"differs from the model by up to 0\.\d+ in a pixel \(allowed: 2/255\)") as caught:
        LatentMap.from_model(decoder)
    assert "too large for half precision" in str(caught.value)


def test_a_decoder_that_does_more_than_its_layers_is_refused():
    class Shifted(nn.Sequential):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z + 1)

    torch.manual_seed(0)
    model = Shifted(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 9))
    with pytest.raises(ValueError, match=r"differs from the model by up to 0\.\d+ in a pixel .* does more than its layers"):
        LatentMap.from_model(model)


PICTURES = torch.zeros(3, 1, 3, 3)


@pytest.mark.parametrize(("images", "labels", "message"), [
    (None, torch.zeros(3, dtype=torch.int64), "labels without images: pass the pictures they belong to."),
    (PICTURES, torch.zeros(2, dtype=torch.int64), "one label a picture, please: got 3 images and 2 labels."),
    (PICTURES, torch.tensor([0, 10, 1]), "labels must lie between 0 and 9"),
    (PICTURES, torch.tensor([0, -1, 1]), "labels must lie between 0 and 9"),
])
def test_pictures_and_labels_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LatentMap.from_model(small_vae(), images, labels)


def test_a_negative_number_of_points_is_refused():
    with pytest.raises(ValueError, match=r"max_points must be 0 or more, got -1\."):
        LatentMap.from_model(small_vae(), PICTURES, max_points=-1)
    assert LatentMap.from_model(small_vae(), PICTURES, max_points=0).points == b""


def test_pictures_need_an_encoder():
    with pytest.raises(TypeError, match=r"Sequential has no encode\(x\) -> \(mu, logvar\).*Leave images out"):
        LatentMap.from_model(nn.Sequential(nn.Linear(2, 9)), PICTURES)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    (([2, 9], bytes(53)), {}, "layers [2, 9] need 27 float16 weights, so 54 bytes; got 53 bytes."),
    (([2], b""), {}, "must take 2 latent dimensions; its layers are [2]"),
    (([3, 9], bytes(72)), {}, "must take 2 latent dimensions; its layers are [3, 9]"),
    (([2, 9], bytes(54)), {"points": bytes(6)}, "points take 5 bytes each, got 6 bytes in all."),
    (([2, 9], bytes(54)), {"extent": 0.0}, "extent must lie between 0 and 8 (points are stored within ±8), got 0.0."),
    (([2, 9], bytes(54)), {"extent": 8.0}, "extent must lie between 0 and 8"),
    (([2, 9], bytes(54)), {"extent": math.nan}, "extent must lie between 0 and 8"),
])
def test_data_that_does_not_fit_together_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LatentMap(*arguments, **options)


# ---------------------------------------------------------------- reading about it


def in_a_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_its_page_of_the_library_reference_can_be_read_without_what_it_imports():
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "_config.yml").read_text(encoding="utf-8"))
    code = ("from sphinx.ext.autodoc.mock import mock\n"
            f"with mock({config['sphinx']['config']['autodoc_mock_imports']}):\n"
            "    from genai_lib.widgets import LatentMap\n"
            "print(LatentMap.__doc__.splitlines()[0]); print(LatentMap.from_model.__doc__.splitlines()[0])")
    lines = in_a_fresh_python(code).splitlines()
    assert lines[0].startswith("A plane of latent vectors")
    assert lines[1].startswith("Copy a trained model's decoder")
