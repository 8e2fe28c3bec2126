"""Text as whole numbers from 0 to size − 1, (N,) int64: a token a character, or a token a frequent piece of a word.

Black-and-white pictures too: a token a small square of pixels, square after square as one reads.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor


class Characters:
    """Every character of `text` is a token; they are numbered in the order of Unicode."""

    def __init__(self, text: str) -> None:
        self.characters = "".join(sorted(set(text)))
        self.size = len(self.characters)
        self._number = {c: i for i, c in enumerate(self.characters)}

    def encode(self, text: str) -> Tensor:
        try:
            return torch.tensor([self._number[c] for c in text], dtype=torch.int64)
        except KeyError as unknown:
            advice = "replace it, or build Characters from a text that has it"
            raise ValueError(f"{unknown} is none of the {self.size} characters of this vocabulary: {advice}") from None

    def decode(self, tokens: Tensor) -> str:
        return "".join(self.characters[i] for i in tokens.tolist())


class BytePairs:
    """Byte-pair encoding (Sennrich, Haddow & Birch 2016; on bytes: Radford et al. 2019, §2.2), from HF's `tokenizers`.

    It starts from the 256 bytes, so that nothing is unknown, and again and again makes the most frequent pair of
    neighbours one token. `BytePairs.train` learns the pairs; they are kept as a string, `BytePairs(pairs.json)`.
    """

    def __init__(self, json: str) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(json)
        except Exception as error:  # it has no type of its own
            raise ValueError(f"this is no vocabulary of byte pairs ({error}). Make one: BytePairs.train(…)") from None
        self.json, self.size = json, int(self._tokenizer.get_vocab_size())

    @classmethod
    def train(cls, text: str, *, size: int) -> BytePairs:
        """Learn `size` tokens, at least 256, from a text; fewer where no pair is left."""
        if size < 256:
            raise ValueError(f"size must be 256 or more, since every byte is a token, got {size}")
        tokenizer, every_byte = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel.alphabet()
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=every_byte, show_progress=False)
        tokenizer.train_from_iterator([text], trainer)
        return cls(tokenizer.to_str())

    def encode(self, text: str) -> Tensor:
        return torch.tensor(self._tokenizer.encode(text).ids, dtype=torch.int64)

    def decode(self, tokens: Tensor) -> str:
        return self._tokenizer.decode(tokens.tolist())


Tokeniser = Characters | BytePairs  # either has a size, encodes a text as (N,) int64, and decodes that to the same text


class Patches:
    """Black-and-white pictures in squares of side × side pixels, row by row: `length` tokens a picture, of `size` kinds.

    The pixels of a square, in reading order, are the bits of its token, the first the lowest: 0 is all black.
    """

    def __init__(self, height: int, width: int, *, side: int = 2) -> None:
        if not 1 <= side <= 4 or height % side or width % side:
            raise ValueError(f"side must be 1 to 4 and divide height and width, got side={side} and {height} × {width} pixels")
        self.side, self.rows, self.columns = side, height // side, width // side
        self.size, self.length = 2**side**2, self.rows * self.columns

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 1, H, W) of pixels 0 or 1 as (B, length) int64."""
        H, W = self.rows * self.side, self.columns * self.side
        if x.shape[1:] != (1, H, W) or not (x.is_meta or ((x == 0) | (x == 1)).all()):  # a meta tensor has no pixels to look at
            raise ValueError(f"x must be (B, 1, {H}, {W}) pixels of 0 or 1 (try `binarise`), got {tuple(x.shape)}")
        squares = x.view(-1, self.rows, self.side, self.columns, self.side).transpose(2, 3).flatten(3)  # (…, side²)
        return (squares.long() << torch.arange(self.side**2, device=x.device)).sum(dim=3).flatten(1)  # (B, length)

    def decode(self, tokens: Tensor) -> Tensor:
        """The pictures (B, 1, H, W) of pixels 0 or 1, float32, that tokens (B, length) stand for."""
        if tokens.shape[1:] != (self.length,) or not ((tokens >= 0) & (tokens < self.size)).all():
            raise ValueError(f"tokens must be (B, {self.length}) from 0 to {self.size - 1}, got {tuple(tokens.shape)}")
        bits = tokens[:, :, None] >> torch.arange(self.side**2, device=tokens.device) & 1  # (B, length, side²)
        squares = bits.view(-1, self.rows, self.columns, self.side, self.side).transpose(2, 3)
        return squares.reshape(-1, 1, self.rows * self.side, self.columns * self.side).float()


def windows(tokens: Tensor, length: int) -> Tensor:
    """All stretches of `length` neighbours in tokens (N,): a (N − length + 1, length) view, for `Batches` to pick from."""
    if not 0 < length <= len(tokens):
        raise ValueError(f"length must lie between 1 and the {len(tokens)} tokens there are, got {length}")
    return tokens.unfold(0, length, 1)
