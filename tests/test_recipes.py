"""Every recipe's Python runs, in a small setting and on small data, and is short."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent / "docs" / "recipes"
RECIPES = sorted(path.stem for path in ROOT.glob("*.md") if path.stem != "README")
SMALL = {"steps": 2, "episodes": 3, "tasks": 2, "queries": 2, "val_every": 2}


def code(name):
    """The recipe's only block of Python."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)
    return block


def small(block):
    """The same code with counts of the small setting; a cosine's length is the steps'."""
    for setting, count in SMALL.items():
        block = re.sub(rf'(\b{setting}=|"{setting}": )\d+', rf"\g<1>{count}", block)
    return block


def sentences(monkeypatch):
    """Thirty classes of five texts, and an encoder that knows a text's length alone."""
    rows = [f"{'word ' * n}{i},intent{n}" for n in range(1, 31) for i in range(5)]
    Path("banking77.csv").write_text("\n".join(["text,intent", *rows]), encoding="utf-8")
    encode = lambda texts, *_: np.array([[len(text) / 100, 1.0] for text in texts], np.float32)  # noqa: E731
    monkeypatch.setattr("mtl_jax.data.sets.text.encoded", encode)
    monkeypatch.setattr("mtl_jax.data.sets.text.width", lambda encoder: 2)


def sounds(monkeypatch):
    """Six digits of four speakers, a tone each."""
    from scipy.io import wavfile

    Path("recordings").mkdir()
    for digit in range(6):
        wave = np.sin(np.arange(4000) * (0.1 + 0.2 * digit))
        for speaker in ("jackson", "nicolas", "theo", "yweweler"):
            for number in range(3):
                wavfile.write(f"recordings/{digit}_{speaker}_{number}.wav", 8000, (wave * 30000).astype(np.int16))


def features_of_images(monkeypatch):
    """Six classes of eight features."""
    y = np.repeat(np.arange(6), 8)
    np.savez("features.npz", x=np.eye(6, dtype=np.float32)[y], y=y)


DATA = {"sentences": sentences, "sounds": sounds, "features_of_images": features_of_images}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_and_is_short(name, tmp_path, monkeypatch, capsys):
    block = code(name)
    assert sum(bool(line.strip()) for line in block.splitlines()) < 40
    if "equinox" in name:
        pytest.importorskip("equinox", reason="the extra [equinox] is not installed")
    monkeypatch.chdir(tmp_path)
    DATA.get(name, lambda monkeypatch: None)(monkeypatch)
    changed = small(block)
    assert changed != block
    exec(compile(changed, name, "exec"), {"__name__": name})
    said = capsys.readouterr().out
    figures = [float(number) for number in re.findall(r"-?\d+\.\d+|nan", said)]
    assert figures
    assert np.isfinite(figures).all()


def test_every_recipe_is_listed():
    listed = re.findall(r"\]\((\w+)\.md\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {*listed} == {*RECIPES}


def test_features_that_tell_classes_apart_are_scored_as_right(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    features_of_images(monkeypatch)
    exec(compile(small(code("features_of_images")), "features", "exec"), {})
    assert capsys.readouterr().out.count("100.0 ± 0.0 %") == 2
