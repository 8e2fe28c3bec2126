"""A model on its own: one ONNX file that draws pictures or writes text without torch's networks (system S21).

`export` writes it: a decoder (z → pixels), a generator (z, or z and y → pixels), or the step of a GPT (tokens → logits of
the token that follows), traced by `torch.export` and translated to ONNX. The file also tells what a reader needs to know
to draw from it. `draw` does so with ONNX Runtime and numpy; only the random numbers are this library's.

B batch, T tokens, Z latent dimensions, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genai_lib import pretrained, recipes
from genai_lib.models.gan import Generator
from genai_lib.models.gpt import GPT
from genai_lib.models.vae import VAE, ConditionalVAE
from genai_lib.noise import Noise

OPSET = 18  # the version of ONNX's operators that is written
TOLERANCE = 1e-4  # the largest difference to torch, as a share of the largest number that torch gives (or of 1)


# What can be exported: inputs, in the order in which `sample` draws them, and the output as a function of product and inputs.
FUNCTIONS: dict[type, tuple[list[str], Callable[..., Tensor]]] = {
    VAE: (["z"], lambda vae, z: vae.decode(z).sigmoid()),
    ConditionalVAE: (["y", "z"], lambda vae, y, z: vae.decoder(torch.cat([z, torch.eye(vae.classes)[y]], dim=1)).sigmoid()),
    Generator: (["z", "y"], lambda generator, *zy: ((generator(*zy) + 1) / 2).clamp(0, 1)),
    GPT: (["tokens"], lambda gpt, tokens: gpt(tokens)[:, -1]),
}


class ExportError(RuntimeError):
    """A model cannot be exported, or a file cannot be drawn from. The message says what to do."""


# ---------------------------------------------------------------- out


def export(name: str, path: Path | str, *, folder: Path | str = pretrained.FOLDER) -> Path:
    """Write a recipe's product into one ONNX file, once ONNX Runtime has given the numbers that torch gives.

    The file is written in version 18 of ONNX's operators (opset 18, `OPSET`).
    The number of rows B is free in the file, and so is T up to the context. Inputs: ``z`` (B, Z) float32, ``y`` (B,) int64,
    or ``tokens`` (B, T) int64. Output: pixels (B, C, H, W) in [0, 1], or logits (B, V). Metadata: `recipe`, `title`, `weights`
    (their SHA-256, from the card), `makes` ("pictures" or "text"), `latent` and `classes` of a picture's maker, `vocabulary`,
    `prompt`, `temperature` and `context` of a writer.

    Parameters
    ----------
    name : str
        A recipe with weights.
    path : path
    folder : path
        Where weights and card lie.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        The product is nothing that can be exported, its numbers differ, or a package is missing.
    WeightsError
        For missing or damaged weights.
    """
    product, card = pretrained.load(name, folder=folder), pretrained.card(name, folder=folder)
    if isinstance(product, GPT):
        facts = _writing(name, product)
    elif type(product) in FUNCTIONS:
        facts = {"makes": "pictures", "latent": product.latent, "classes": getattr(product, "classes", 0)}
    else:
        raise ExportError(f"{name} cannot be exported. What can: VAEs, generators of GANs, and GPTs that write characters.")
    facts |= {"recipe": name, "title": recipes.get(name).title, "weights": card["sha256"]}
    whole = _translated(product, {key: str(fact) for key, fact in facts.items()})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole + _seal(whole))
    return path


def _writing(name: str, product: GPT) -> dict[str, Any]:
    """How the recipe writes: its vocabulary, the prompt and the temperature, heard by standing in the model's place."""
    heard: dict[str, Any] = {}

    def listen(prompt: Tensor, n: int, noise: Noise, **choice: Any) -> Tensor:
        heard.update(prompt=prompt[0].tolist(), **choice)  # and answer with each token once: the recipe spells its vocabulary
        return torch.cat([prompt, torch.arange(n).expand(len(prompt), n)], dim=1)

    listener = copy.copy(product)
    listener.sample = listen  # type: ignore[method-assign]
    write = recipes.get(name).text
    vocabulary = write(listener, product.config.size, Noise(0)) if write else ""
    if len(vocabulary) != product.config.size or heard.keys() | {"temperature"} != {"prompt", "temperature"}:
        raise ExportError(f"{name} cannot be exported: it does more than draw single characters at some temperature")
    heard["prompt"] = "".join(vocabulary[token] for token in heard["prompt"])
    return {"makes": "text", "vocabulary": vocabulary, "temperature": 1.0, "context": product.config.context} | heard


class _Network(nn.Module):
    def __init__(self, product: nn.Module) -> None:
        super().__init__()
        self.product = product

    def forward(self, *inputs: Tensor) -> Tensor:
        return FUNCTIONS[type(self.product)][1](self.product, *inputs)


def _translated(product: nn.Module, facts: dict[str, str]) -> bytes:
    """The product as ONNX, with the facts as metadata, after ONNX Runtime has given the numbers that torch gives."""
    passes, _, _ = map(_package, ("onnx_ir.passes.common", "onnxscript", "onnxruntime"))
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # torchvision is not needed
    network, sizes = _Network(product), {0: torch.export.Dim("B")}
    names = [name for name in FUNCTIONS[type(product)][0] if name != "y" or facts["classes"] != "0"]
    if facts["makes"] == "text":
        sizes[1] = torch.export.Dim("T", min=1, max=int(facts["context"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter, of its own code
        example = tuple(torch.from_numpy(x) for x in _inputs(names, facts, 3, 7, Noise(0)).values())
        program = torch.export.export(network, example, dynamic_shapes=((sizes,) * len(example),))
        onnx: Any = torch.onnx.export(program, dynamo=True, opset_version=OPSET, input_names=names, verbose=False)
    passes.ClearMetadataAndDocStringPass()(onnx.model)  # it names the source files and their folders
    onnx.model.metadata_props.update(facts)
    whole: bytes = onnx.model_proto.SerializeToString()
    session = _session(whole)
    for B, T in (1, 1), (2, 64), (11, 13):
        inputs = _inputs(names, facts, B, T, Noise(0, B))
        expected = network(*map(torch.from_numpy, inputs.values())).numpy()
        gap, most = np.abs(session.run(None, inputs)[0] - expected).max(), TOLERANCE * max(1.0, np.abs(expected).max())
        if not gap <= most:
            raise ExportError(f"ONNX Runtime differs from torch by {gap:.2g}, more than {most:.2g}: nothing was written")
    return whole


# ---------------------------------------------------------------- and in


def draw(path: Path | str, n: int, noise: Noise) -> np.ndarray | str:
    """Draw from a file that `export` has written, with ONNX Runtime.

    The same noise gives what the recipe's product gives in torch: the same pictures to a thousandth of a grey level, and
    the same text, unless a random number falls where two characters meet to within rounding.

    Parameters
    ----------
    path : path
    n : int
        How many pictures, or characters.
    noise : Noise
        On the CPU.

    Returns
    -------
    Pictures (n, C, H, W) in [0, 1], or n characters of text.

    Raises
    ------
    ExportError
        The file is missing, damaged, or not written by `export`; or a package is missing.
    """
    path, seal = Path(path), len(_seal(b""))
    if not path.is_file():
        raise ExportError(f"there is no file {path}. Write one: python -m genai_lib export RECIPE --out {path}")
    whole = path.read_bytes()
    if whole[-seal:] != _seal(whole[:-seal]):
        raise ExportError(f"{path} is damaged, or `python -m genai_lib export` did not write it. Export the model again.")
    session = _session(whole)
    facts = session.get_modelmeta().custom_metadata_map
    if facts["makes"] == "text":
        return _write(session, facts, n, noise)
    return session.run(None, _inputs([i.name for i in session.get_inputs()], facts, n, 0, noise))[0]


def _write(session: Any, facts: dict[str, str], n: int, noise: Noise) -> str:
    """As `GPT.step` does it: once the text exceeds the context, its last context / 2 tokens are read anew."""
    tokens, context = [facts["vocabulary"].index(c) for c in facts["prompt"]], int(facts["context"])
    read = len(tokens)
    for _ in range(n):
        logits = session.run(None, {"tokens": np.array([tokens[-read:]])})[0][0].astype(np.float64)  # (V,)
        upto = np.exp((logits - logits.max()) / float(facts["temperature"])).cumsum()  # (V,)
        tokens.append(int(np.searchsorted(upto, upto[-1] * noise.uniform(1).item(), side="right")))
        read = read + 1 if read < context else max(1, context // 2)
    return "".join(facts["vocabulary"][token] for token in tokens[-n:])


def _inputs(names: list[str], facts: dict[str, str], B: int, T: int, noise: Noise) -> dict[str, np.ndarray]:
    """Draw what a network is to be given, in the order of the names."""
    ways = {
        "z": lambda: noise.normal(B, int(facts["latent"])),
        "y": lambda: noise.integers(int(facts["classes"]), B),
        "tokens": lambda: noise.integers(len(facts["vocabulary"]), B, min(T, int(facts["context"]))),
    }
    return {name: ways[name]().numpy() for name in names}


def _seal(whole: bytes) -> bytes:
    """The file's last bytes: the SHA-256 of the others, as one more entry of its metadata.

    ONNX is a protocol buffer, and entries may be appended to one: a tag, a length, and what they hold.
    """
    entry = b"\x0a\x06sha256\x12\x40" + hashlib.sha256(whole).hexdigest().encode()
    return bytes([0x72, len(entry)]) + entry  # field 14 of an ONNX model: metadata_props


def _session(whole: bytes) -> Any:
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return runtime.InferenceSession(whole, options)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ExportError(f"{name.split('.')[0]} is not installed: pip install 'genai_lib[export]'") from None
