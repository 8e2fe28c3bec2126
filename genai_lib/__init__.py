"""The library of the course *Generative AI: gold mine or bubble?*

Floors, lowest first; a file imports only from floors below its own::

    noise        where random numbers come from
    progress     how far a long computation has come
    data         packed sets, checked by hash; batches; two-dimensional toys
    models       networks and distributions, one idea a file
    objectives   what is minimised, in nats per example
    optimisers   how a gradient becomes a step, where Adam is not the best choice
    checkpoint   a run's state in one file that is whole or absent
    training     the one loop: players take turns
    callbacks    what may happen between the steps: averages, pictures, logs
    metrics      how good the samples and the bounds are
    ledger       claims and verdicts: the rule, and the book's record of figures
    games        Sokoban: whether a level has a solution, and whether it is new
    recipes      named runs: data + model + players + schedule + the quality to expect
    speed        what a training step costs
    pretrained   weights of recipes, each with a card
    sweep        reports of long experiments, whole after every row
    export       a model as one ONNX file, and drawing from it
    compression  smaller models, and what that costs
    studio       pieces that can be made again, and a gallery that is not lost
    plotting     the figures, one palette
    widgets      figures one can play with
"""

from genai_lib.noise import Noise, setup

__version__ = "0.1.0"
__all__ = ["Noise", "__version__", "setup"]
