"""Comparing networks layer by layer."""

from __future__ import annotations

from torch import nn


def same_layers(network: nn.Module, *expected: nn.Module) -> bool:
    """Are the layers of the same kinds, and built with the same arguments?"""
    return [repr(layer) for layer in network.children()] == [repr(layer) for layer in expected]
