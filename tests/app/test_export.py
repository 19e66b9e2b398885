"""Exported classifiers: the same answers by the program alone, for any number of pictures, on three platforms."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import mtl_jax
from jax import export as jax_export
from PIL import Image

from mtl_jax import models
from mtl_jax.app import export
from mtl_jax.app.build import build_learner
from mtl_jax.app.classifier import of_run, run
from mtl_jax.app.methods import resolve_settings
from mtl_jax.app.pictures import Support

DOCS = Path(__file__).parent.parent.parent / "docs" / "predict.md"
SYMBOLS = jax_export.symbolic_shape("n, 32, 32, 3")


@pytest.fixture
def exported(colours, tiny_backbone, tmp_path, capsys):
    out = tmp_path / "classifier"
    assert mtl_jax("export", "lite0", "--support", colours / "train", "--out", out, "--image-size", 8, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["classes"] == ["blue", "green", "red"]
    assert said["bytes"] == sum(f.stat().st_size for f in out.iterdir())
    return out


def test_predict_by_the_program_is_predict_by_the_backbone(exported, colours, capsys):
    query = colours / "val" / "cyan"
    command = ["predict", exported, "--query", query, "--json"]
    assert mtl_jax(*command) == 0
    by_program = json.loads(capsys.readouterr().out)
    assert (
        mtl_jax("predict", "lite0", "--support", colours / "train", "--query", query, "--image-size", 8, "--json") == 0
    )
    direct = json.loads(capsys.readouterr().out)
    assert by_program["expected"] == direct["expected"]
    for one, two in zip(by_program["predictions"], direct["predictions"], strict=True):
        assert one["class"] == two["class"]
        assert one["probability"] == pytest.approx(two["probability"], abs=1e-5)
    assert mtl_jax(*command, "--html", exported / "page.html") == 0
    assert (exported / "page.html").read_text().count("<img ") == 5


def test_the_lines_of_the_docs_use_it_without_this_package(exported, colours, tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert "mtl_jax" not in block
    body = [line for line in block.splitlines() if line and not re.match("import|from", line)]
    assert len(body) <= 10
    with Image.open(colours / "train" / "red" / "0.png") as picture:
        picture.save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "predict.md", "exec"), {})
    name, share = capsys.readouterr().out.split()
    assert name == "red"
    assert float(share) > 0.9


@pytest.mark.parametrize("learner", ["anil", "r2d2"])
def test_a_runs_program_gives_its_own_logits_for_any_number_of_images(learner, tmp_path, key):
    size = (16, 16, 1)
    given = {"inner_steps": 1} if learner == "anil" else {}
    given |= {"learner": learner, "width": 4, "ways": 3, "norm": "support", "image_shape": size}
    settings = resolve_settings(given)
    rng = np.random.default_rng(0)
    known = Support(rng.integers(0, 256, (7, *size), np.uint8), np.array([0, 0, 1, 1, 2, 2, 2], np.int32), *"abc")
    known = known._replace(names=("a", "b", "c"))
    theta = build_learner(settings, 3).init(key, jnp.zeros((1, *size)))
    classifier = of_run(settings, theta, known)
    about = export.write_exported(tmp_path / "out", classifier, None, "run")
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    again, expected = export.load_exported(tmp_path / "out")
    assert expected is None
    for n in (1, 3):
        images = rng.integers(0, 256, (n, *size), np.uint8)
        np.testing.assert_allclose(run(again, images)[0], run(classifier, images)[0], atol=1e-4)
        program = jax_export.deserialize((tmp_path / "out" / export.PROGRAM).read_bytes())
        shares, logits = program.call(jnp.asarray(images))
        np.testing.assert_allclose(shares, jax.nn.softmax(logits, -1), atol=1e-6)


@pytest.mark.parametrize(
    "net",
    [
        models.conv4(None, 16, "support"),
        models.resnet12(None, (16, 16, 16, 16), "support"),
        models.mlp(None, (4,)),
        models.resnet(18),
        models.efficientnet("lite0"),
    ],
    ids=["conv4", "resnet12", "mlp", "resnet18", "lite0"],
)
def test_a_network_is_traced_for_a_symbol_of_images(net, key):
    x = jnp.ones((2, 32, 32, 3))
    params = jax.eval_shape(net.init, key, x)
    stats = jax.eval_shape(lambda p: net.apply(p, x, None)[1], params)
    program = jax.jit(lambda p, s, x: net.apply(p, x, s)[0])
    traced = jax_export.export(program, platforms=("cpu", "tpu"))(
        params, stats, jax.ShapeDtypeStruct(SYMBOLS, jnp.float32)
    )
    assert str(traced.out_avals[0].shape[0]) == "n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("export lite0 --support {tmp}/absent --out {tmp}/new", "absent"),
        ("export lite0 --support {train} --out {tmp}", "exists already"),
        ("export lite0 --support {train} --out {tmp}/absent/new", "make it first"),
        ("export {tmp}/absent --support {train} --out {tmp}/new", "config.json"),
        ("export {out} --support {train} --out {tmp}/new", "exported already"),
        ("export lite0 --support {train} --out {tmp}/new --norm support", "no option --norm"),
        ("predict {out} --support {train} --query {train}/red", "leave --support out"),
        ("predict {out} --query {train}/red --norm none", "leave --norm out"),
        ("predict {broken} --query {train}/red", "export it again"),
        ("predict {hollow} --query {train}/red", "export it again"),
        ("predict lite0 --query {train}/red", "give --support"),
    ],
)
def test_bad_input_is_one_line(command, said, exported, colours, tmp_path, capsys):
    broken, hollow = (shutil.copytree(exported, tmp_path / name) for name in ("broken", "hollow"))
    (broken / export.PROGRAM).write_bytes(b"no program")
    (hollow / export.ABOUT).write_text("{}")
    places = {"tmp": tmp_path, "train": colours / "train", "out": exported, "broken": broken, "hollow": hollow}
    before = sorted(tmp_path.rglob("*"))
    assert mtl_jax(*command.format(**places).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtl-jax: error: ")
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before
