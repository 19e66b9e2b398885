"""The site builds without a warning, has every method, and what its pages promise is so."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mtl_jax.app.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


class Words(HTMLParser):
    """A page's words, without tags."""

    def __init__(self, page):
        super().__init__()
        self.parts = []
        self.feed(page)

    def handle_data(self, data):
        self.parts.append(data)

    def __str__(self):
        return " ".join("".join(self.parts).split())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    there = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_method_has_a_page_with_its_rule_and_its_code(site):
    for name, method in METHODS.items():
        words = str(Words((site / "methods" / name / "index.html").read_text(encoding="utf-8")))
        assert f"def {method.function}(" in words, name
        assert "Parameters:" in words, name
        rule, _, call = words.partition("Update rule")[2].partition("Call")
        assert len(rule.split()) > 3, name
        assert f"mtl-jax train {name}" in call


def test_a_rule_is_the_docstring_s(site):
    words = str(Words((site / "methods" / "protonet" / "index.html").read_text(encoding="utf-8")))
    assert "c_k = mean of f_theta(x) over the support of class k" in words.partition("Call")[0]


def test_pages_of_two_languages_stand_side_by_side(site):
    for page in ("index.md", "concepts.md"):
        here, there = ((ROOT / "docs" / folder / page).read_text(encoding="utf-8") for folder in (".", "zh"))
        assert re.search(r"[\u4e00-\u9fff]", there)
        assert BLOCK.findall(here) == BLOCK.findall(there)
        assert (site / "zh" / page.replace("index.md", "").replace(".md", "") / "index.html").is_file()


def test_the_quick_start_runs_as_it_stands(tmp_path, monkeypatch, capsys, glyphs):
    glyphs("train")  # drawn once for all
    (block,) = BLOCK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    smaller = {
        "steps=200": "steps=2",
        "episodes=600": "episodes=4",
        "width=32": "width=4",
        "inner_steps=3": "inner_steps=1",
    }
    for old, new in smaller.items():
        assert block.count(old) == 1
        block = block.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "index.md", "exec"), {})
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d %\n", capsys.readouterr().out)


def test_commands_on_the_pages_are_commands(site):
    from mtl_jax.app.commands import COMMANDS

    for page in (ROOT / "docs").rglob("*.md"):
        for command in re.findall(r"^mtl-jax (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert command in COMMANDS, f"{page.name}: {command}"
