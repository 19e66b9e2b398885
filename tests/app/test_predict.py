"""predict's answers where the truth is known, and the pictures it reads: rotated, damaged, in folders of classes."""

import json
import shutil

import numpy as np
import pytest
from command_line import mtl_jax
from PIL import Image
from sklearn.metrics import confusion_matrix

from mtl_jax.app import classifier, features, pictures, predict
from mtl_jax.types import Model


@pytest.fixture
def sorted_colours(sorted_colours):
    """As everywhere, but for one green picture in red's folder of the query."""
    support, query = sorted_colours
    shutil.copy(query / "green" / "3.png", query / "red" / "wrong.png")
    return support, query


def test_a_query_folder_of_classes_gives_accuracy_and_confusion(sorted_colours, tiny_backbone, capsys, caplog):
    support, query = sorted_colours
    (query / "red" / "damaged.png").write_bytes(b"no picture")
    assert mtl_jax("predict", "lite0", "--support", support, "--query", query, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    rows = said["predictions"]
    assert len(rows) == 7
    truth, label = ([row[k] for row in rows] for k in ("true", "class"))
    classes = said["confusion"]["classes"]
    assert classes == ["blue", "green", "red"]
    np.testing.assert_array_equal(said["confusion"]["counts"], confusion_matrix(truth, label, labels=classes))
    assert said["accuracy"] == pytest.approx(6 / 7)
    low, high = said["ci95"]
    assert low < 6 / 7 < high
    assert said["skipped"] == [str(query / "red" / "damaged.png")]
    assert "skipped 1 of 8 images" in caplog.text
    assert "damaged.png" in caplog.text
    assert mtl_jax("predict", "lite0", "--support", support, "--query", query) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[7].startswith("85.7 % right (")
    assert table[-1].split() == ["3", "red", ".", "1", "2"]


def test_a_rotated_photograph_is_read_upright(tmp_path):
    x = np.zeros((20, 30, 3), np.uint8)
    x[:, 15:] = 255  # dark left, bright right
    upright = Image.fromarray(x)
    upright.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.jpg", exif=exif, quality=95)
    read = pictures.read_queries([tmp_path], (), 16, 3)
    assert np.abs(read.images[0].astype(int) - read.images[1]).mean() < 4
    assert read.images[1][:, :6].mean() < 10
    assert read.images[1][:, -6:].mean() > 245


def test_loose_pictures_beside_folders_of_other_names_are_the_query(sorted_colours, tmp_path, caplog):
    support, query = sorted_colours
    loose = pictures.read_queries([support / "red"], ("red",), 8, 3)
    assert loose.truth is None
    (query / "red").rename(query / "old")
    shutil.copy(query / "old" / "3.png", query / "a.png")
    seen = pictures.read_queries([query], ("blue", "green", "red"), 8, 3)
    assert [path.name for path in seen.paths] == ["a.png"]
    assert "blue/, green/, old/" in caplog.text
    (query / "old").rename(query / "red")
    seen = pictures.read_queries([query], ("blue", "green", "red"), 8, 3)
    assert len(seen.paths) == 7
    assert seen.truth.tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_other_names_than_the_supports_are_refused_or_are_none_of_the_classes(sorted_colours):
    query = sorted_colours[1]
    (query / "red").rename(query / "rde")
    with pytest.raises(ValueError, match="has rde/, which the support set has not"):
        pictures.read_queries([query], ("blue", "green", "red"), 8, 3)
    seen = pictures.read_queries([query], ("blue", "green", "red"), 8, 3, others=True)
    assert seen.truth.tolist() == [0, 0, 1, 1, -1, -1, -1]


def test_a_score_counts_those_that_are_rightly_left_empty():
    rows = [("a", "a"), ("a", "b"), ("", ""), ("", "b"), ("b", "")]
    found = [predict.Prediction(None, label, 0.5, "", truth) for truth, label in rows]
    scored = predict.score(found, ("a", "b"))
    assert scored.classes == ("a", "b", predict.NOTHING)
    assert scored.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 1]]
    assert scored.accuracy == pytest.approx(2 / 5)
    assert predict.score([predict.Prediction(None, "a", 0.5, "")], ("a", "b")) is None


def test_choose_takes_the_backbone_that_is_right_most_often_inside_the_support_set(
    sorted_colours, monkeypatch, capsys, tmp_path
):
    support, query = sorted_colours

    def backbone(name):  # one that sees colours, and one that sees brightness alone
        see = (lambda x: x.mean((1, 2)) - 0.5) if name == "lite1" else (lambda x: x.mean((1, 2, 3))[:, None] + 1.0)
        return Model(lambda key, x: {}, lambda params, x, stats=None: (see(x), None)), {}

    monkeypatch.setattr(features, "pretrained", backbone)
    command = ["predict", "lite0", "--support", support, "--query", query, "--image-size", 8]
    assert mtl_jax(*command, "--choose", "lite1", "lite0", "--json") == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert [(row["run"], row["chosen"]) for row in said["choices"]] == [("lite0", False), ("lite1", True)]
    assert said["choices"][0]["accuracy"] < said["choices"][1]["accuracy"] == 1.0
    assert said["run"] == "lite1"
    assert said["accuracy"] == pytest.approx(6 / 7)
    table = [line for line in err.splitlines() if "-log p" in line]
    assert [line.endswith("chosen") for line in table] == [False, True]
    assert mtl_jax(*command, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["expected"] == {k: v for k, v in said["choices"][0].items() if k not in ("run", "chosen")}


def test_reject_leaves_strange_pictures_empty_by_the_support_sets_own_images(sorted_colours, tiny_backbone, capsys):
    support, query = sorted_colours
    shutil.copytree(query.parent / "test" / "yellow", query / "yellow")
    command = ["predict", "lite0", "--support", support, "--query", query, "--json"]
    assert mtl_jax(*command, "--reject", 0.2) == 0
    said = json.loads(capsys.readouterr().out)
    rows = {row["file"].split("query/")[1]: row for row in said["predictions"]}
    yellow = [row for name, row in rows.items() if name.startswith("yellow")]
    assert len(yellow) == 5
    assert all(row["class"] == "" and row["second"] in ("red", "green") and row["true"] == "" for row in yellow)
    assert said["confusion"]["classes"][-1] == predict.NOTHING
    assert said["reject"]["empty"] == sum(row["class"] == "" for row in said["predictions"])
    # the threshold is the second smallest of nine: floor(0.2 x 9) of the left-out images lie below it
    known = pictures.read_support(support, 224, 3)
    held = classifier.of_backbone("lite0", known).held_out(None)
    assert (held.logits.max(1) < said["reject"]["threshold"]).sum() == 1
    assert mtl_jax(*command) == 2
    assert "give --reject" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--query {tmp}/absent", "absent"),
        ("--query {tmp}/empty", "has no images"),
        ("--query {tmp}/damaged", "none of the query images can be read"),
        ("--query {query} {query}/red", "is a folder beside others"),
        ("--query {query} --support {tmp}/empty", "has no sub-folders"),
        ("--query {query} --support {tmp}/one", "has no image"),
        ("--query {query} --support {tmp}/spoilt", "runs empty"),
        ("--query {query} --csv {tmp}", "cannot be written"),
        ("--query {query} --folds 1", "leaves nothing to learn from"),
        ("--query {query} --reject 0.1 --folds 0", "leave --folds 0 out"),
        ("--query {query} --reject 1.5", "at most 0.999"),
        ("--query {query} --choose {tmp}/absent", "config.json"),
        ("--query {query}/red --support {tmp}/single --reject 0.1", "two labelled images"),
        ("--query {query}/red --support {tmp}/single --choose lite1", "two labelled images"),
    ],
)
def test_bad_input_is_one_line(command, said, sorted_colours, tmp_path, tiny_backbone, capsys):
    support, query = sorted_colours
    for name in ("empty", "damaged", "one/red", "spoilt/red", "single/red", "single/blue"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "damaged" / "a.png").write_bytes(b"no picture")
    (tmp_path / "spoilt" / "red" / "a.png").write_bytes(b"no picture")
    for name in ("red", "blue"):
        shutil.copy(support / name / "0.png", tmp_path / "single" / name)
    words = command.format(tmp=tmp_path, query=query).split()
    words += [] if "--support" in words else ["--support", support]
    assert mtl_jax("predict", "lite0", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtl-jax: error: ")
    assert said in line
