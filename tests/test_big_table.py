"""The big table: its figures agree with the cards, and its intervals are worked out right."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

from genai_lib import Noise, metrics, pretrained
from genai_lib.metrics import Interval
from genai_lib.models.vae import conditional_vae, mlp_vae
from genai_lib.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "genai_lib" / "data" / "big_table.json"
TABLE = json.loads(PATH.read_text(encoding="utf-8"))
ROWS = {row["name"]: row for row in TABLE["rows"]}
MODELS = {name: row for name, row in ROWS.items() if row["family"] != "real"}
SHIPPED = [name for name in MODELS if name in RECIPES]
INTERVALS = ["fid", "kid", "fid, 50 principal components", "precision", "recall", "density", "coverage", "closer", "copies",
             "closer, features"]  # fmt: skip
MAYBE = ["nats", "nats, all digits", "fid, black and white"]  # in the rows that have one


def script():
    spec = importlib.util.spec_from_file_location("big_table", ROOT / "benchmarks" / "big_table.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


big_table = script()

# ---------------------------------------------------------------- the report


def test_every_shipped_generator_of_digits_has_a_row():
    def draws_digits(name):
        recipe = RECIPES[name]
        if recipe.judge != "classifier" or recipe.text is not None or recipe.music is not None:
            return False
        product = recipe.product(recipe.build())
        return hasattr(product, "sample") and "fid" in pretrained.card(name)["figures"]

    assert set(SHIPPED) == {name for name in RECIPES if draws_digits(name)}
    assert list(ROWS) == list(big_table.FAMILIES)
    assert {name: row["family"] for name, row in ROWS.items()} == big_table.FAMILIES


def test_the_report_says_how_it_was_made():
    assert TABLE["command"] == "python benchmarks/big_table.py --out genai_lib/data/big_table.json"
    assert TABLE["columns"] == big_table.COLUMNS
    assert TABLE["machine"]
    assert 0 < TABLE["CPU seconds"] < 30 * 60
    assert PATH.stat().st_size < 40_000
    for row in ROWS.values():
        assert set(big_table.COLUMNS) <= set(row)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_row_agrees_with_the_card(name):
    row, card = ROWS[name], pretrained.card(name)
    figures = card["figures"]
    assert row["fid"][0] == pytest.approx(figures["fid"], rel=1e-3)
    assert row["kid"][0] == pytest.approx(figures["kid"], rel=1e-3, abs=1e-4)
    if "log-likelihood, binarised" in figures:
        assert row["kind"] == "exact"
        assert row["nats, all digits"][0] == pytest.approx(figures["log-likelihood, binarised"], abs=1e-3)
    if "iwae k=500, binarised, every fifth digit" in figures:
        assert row["kind"] == "bound"
        assert row["nats"][0] == pytest.approx(figures["iwae k=500, binarised, every fifth digit"], abs=1e-3)
    assert row["title"] == card["title"]
    assert (row["seconds to train"], row["trained on"]) == (card["seconds"], card["machine"])
    assert row["parameters"] == card["parameters"]
    assert row["kB"] == round((pretrained.FOLDER / f"{name}.safetensors").stat().st_size / 1000, 1)
    big_table.hold_to_card(row)


@pytest.mark.parametrize("name", ROWS)
def test_every_figure_lies_in_its_interval(name):
    row = ROWS[name]
    for column in INTERVALS + [column for column in MAYBE if row[column] is not None]:
        estimate, low, high = row[column]
        assert low <= estimate <= high, column
        assert low < high or (column == "copies" and estimate == 0), column
    for share in ("precision", "recall", "coverage", "closer", "copies", "closer, features"):
        assert 0 <= row[share][0] <= 1, share
    assert (row["kind"] is None) == (row["nats"] is None)
    assert (row["kind"] == "exact") == (row["nats, all digits"] is not None)


def test_real_digits_are_the_floor():
    real, binarised = ROWS["real digits"], ROWS["real digits, binarised"]
    for name, row in MODELS.items():
        for column in ("fid", "kid", "fid, 50 principal components"):
            assert row[column][0] > real[column][0], (name, column)
            if row["black and white"]:
                assert row[column][0] > binarised[column][0], (name, column)
        assert row["coverage"][0] < real["coverage"][0], name
        assert row["black and white"] == (row["fid, black and white"] is not None)
        if row["black and white"]:
            assert binarised["fid, black and white"][0] < row["fid, black and white"][0] < row["fid"][0], name
    assert binarised["fid, black and white"][0] < 0.2 < binarised["fid"][0]  # to lack grey is what costs
    assert real["kid"][1] < 0.005
    for row in (real, binarised):
        for column in ("closer", "closer, features"):
            assert row[column][1] - 0.02 < 0.5 < row[column][2] + 0.02  # new digits: no closer than other new digits


def test_a_likelihood_is_named_where_there_is_one():
    kinds = {name: row["kind"] for name, row in ROWS.items() if row["kind"]}
    bounds = dict.fromkeys(("vae-mlp", "vae-map", "vae-conv", "vae-conditional"), "bound")
    assert kinds == {"mixture-binary": "exact", "gpt-pixels": "exact", **bounds}
    nats = {name: ROWS[name]["nats"][0] for name in kinds}
    assert nats["gpt-pixels"] > nats["mixture-binary"] + 30
    assert nats["vae-conv"] > nats["vae-mlp"] > nats["vae-map"]
    for name in ("mixture-binary", "gpt-pixels"):  # a fifth of the digits is like all
        assert abs(nats[name] - ROWS[name]["nats, all digits"][0]) < 2


def test_the_jackknife_tells_the_scatter_of_independent_sets():
    """The standard deviation of n sets is known to about 1 / √(2 (n − 1)) of itself: three times that, either way."""
    for name, found in TABLE["check"].items():
        values = torch.tensor(found["fid of each set"], dtype=torch.float64)
        assert values.std().item() == pytest.approx(found["their standard deviation"], abs=1e-4)
        told = torch.tensor(found["jackknife, of each"]).square().mean().sqrt().item()
        assert abs(math.log(told / values.std().item())) < 3 / math.sqrt(2 * (len(values) - 1)), name


def test_times_and_sizes_are_told_for_models_only():
    for name, row in ROWS.items():
        told = [row[column] for column in ("seconds to train", "trained on", "parameters", "kB", "seconds per sample")]
        assert all(told) if name in MODELS else told == [None] * 5
    assert ROWS["gpt-pixels"]["seconds per sample"] > 10 * ROWS["dcgan"]["seconds per sample"]  # patch after patch


# ---------------------------------------------------------------- how it was computed


def features(seed, *, shift):
    return Noise(seed).normal(500, 5) * torch.linspace(0.5, 1.5, 5) + shift


def test_the_intervals_of_fid_and_kid_are_those_of_the_library():
    """Faster, from sums over groups: the same estimate and the same ends."""
    made, real = features(0, shift=3.3), features(1, shift=3.0)
    for metric, found in (
        (metrics.fid, big_table.fid_interval(made, real)),
        (metrics.kid, big_table.kid_interval(made, real, big_table.own_sums(real))),
    ):
        assert found == pytest.approx(metrics.jackknife(metric, made, real, groups=5), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_closer_and_copies_are_those_of_the_library(seed):
    train, test, made = (Noise(seed, i).integers(3, n, 4).float() for i, n in enumerate((300, 200, 150)))  # with many ties
    made[:20] = train[:20]
    d, reference = (metrics.nearest(x, train)[0] for x in (made, test))
    expected = metrics.memorisation(made, train, test)
    closer, copies = big_table.closer_and_copies(d, reference)
    assert closer.estimate == pytest.approx(expected.closer)
    assert copies.estimate == pytest.approx(expected.copies)
    again = []
    for i in range(200):
        ours, theirs = (values[Noise(seed, 8, i).integers(len(values), len(values))] for values in (d, reference))
        again.append(big_table.closer_and_copies(ours, theirs)[0].estimate)
    assert (closer.high - closer.low) / 3.92 == pytest.approx(torch.tensor(again).std().item(), rel=0.2)


def test_the_bound_of_a_vae_is_the_one_of_its_card():
    torch.manual_seed(0)
    model, x = mlp_vae(latent=3, width=7).eval(), (Noise(0).uniform(230, 1, 28, 28) < 0.2).float()
    found = big_table.bound(model, x, 6)
    assert found.mean().item() == pytest.approx(metrics.mean_iwae_bound(model, x, k=6), abs=1e-3)


def test_the_bound_of_a_vae_that_is_told_the_label_leaves_the_label_out():
    torch.manual_seed(0)
    model, x = conditional_vae(latent=3, width=7).eval(), (Noise(0).uniform(30, 1, 28, 28) < 0.2).float()
    with torch.no_grad():
        model.decoder[0].weight[:, 3:] *= 8  # the columns of the label
    found = big_table.bound(model, x, 5_000)
    with torch.no_grad():
        of_label = torch.stack([big_table.bound(model.given(torch.full((30,), y)), x, 500) for y in range(10)])  # (10, 30)
    torch.testing.assert_close(found, of_label.double().exp().mean(dim=0).log().float(), atol=0.3, rtol=0)
    assert of_label.std(dim=0).mean() > 1  # labels matter, or the test would say nothing


def test_a_row_that_contradicts_its_card_stops_the_script():
    row = json.loads(json.dumps(ROWS["dcgan"]))
    row["fid"][0] *= 1.2
    with pytest.raises(ValueError, match=r"dcgan: fid is \d+\.\d+ here and \d+\.\d+ on the card\. Measure the card again"):
        big_table.hold_to_card(row)


def test_a_report_is_gone_on_with(tmp_path, monkeypatch):
    """Finished rows are kept, and rows stand in their order whatever was made first."""
    made = []
    monkeypatch.setattr(big_table.genai_lib, "setup", lambda **options: None)
    monkeypatch.setattr(big_table, "Jury", lambda: None)
    monkeypatch.setattr(big_table, "check", lambda jury: {})
    monkeypatch.setattr(big_table, "one_row", lambda name, jury: made.append(name) or {"name": name, "CPU seconds": 1.0})
    out = tmp_path / "table.json"
    for arguments in (["--rows", "dcgan", "mixture"], ["--rows", "flow", "mixture"], ["--rows", "dcgan", "--again", "dcgan"]):
        monkeypatch.setattr("sys.argv", ["big_table.py", "--out", str(out), *arguments])
        big_table.main()
    assert made == ["dcgan", "mixture", "flow", "dcgan"]
    assert [row["name"] for row in json.loads(out.read_text())["rows"]] == ["mixture", "dcgan", "flow"]


def test_an_interval_is_written_with_six_decimals():
    assert big_table.rounded(Interval(1 / 3, -1.0, 2.0)) == [0.333333, -1.0, 2.0]
