"""The page of predictions: whole, by itself, in order, and wide enough for no telephone to scroll sideways."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mtl_jax import cli
from mtl_jax.app import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture
def folders(sorted_colours):
    """(support, query), one picture of the query under a wrong name, one damaged."""
    support, query = sorted_colours
    shutil.copy(query / "green" / "3.png", query / "red" / "<b>&'\".png")
    (query / "red" / "damaged.png").write_bytes(b"no picture")
    return support, query


@pytest.fixture
def written(folders, tmp_path, tiny_backbone, capsys):
    support, query = folders
    file = tmp_path / "page.html"
    command = ["predict", "lite0", "--support", support, "--query", query, "--html", file, "--json"]
    cli.main([str(word) for word in command])
    return file, json.loads(capsys.readouterr().out)


class Reader(HTMLParser):
    """What a page holds: attributes of its tags, text, and whether each tag is closed in its turn."""

    VOID = frozenset(("meta", "img", "br"))

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_in_order_and_fetches_nothing(written):
    file, said = written
    html = file.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert "script" not in {tag for tag, _ in reader.tags}
    images = [attrs for tag, attrs in reader.tags if tag == "img"]
    sources = [attrs["src"] for attrs in images] + re.findall(r"url\(([^)]*)\)", html)
    assert len(sources) == 7 + 9  # queries, and the support set once each
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))) as picture:
            assert picture.size == (20, 16)
    order = sorted(said["predictions"], key=lambda row: (row["probability"], row["file"]))
    assert [attrs["alt"] for attrs in images] == [row["file"].rsplit("/", 1)[1] for row in order]
    widths = [int(w) for w in re.findall(r'<i style="width:(\d+)%">', html)]
    assert widths == sorted(widths) == sorted(round(100 * row["probability"]) for row in said["predictions"])
    assert html.count('<li class="wrong">') == 1
    assert "wrong: it is red" in reader.text
    assert "85.7 %" in reader.text
    assert "1 file that cannot be read" in reader.text
    assert said["skipped"][0] in reader.text
    assert not list(file.parent.glob("*.tmp"))


def test_the_nearest_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    x, s = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    found = page.nearest(x, s, 3)
    for row, q in zip(found, x, strict=True):
        distances = [float(((q - each) ** 2).sum()) for each in s]
        assert row.tolist() == sorted(range(5), key=distances.__getitem__)[:3]
    assert page.nearest(x, s[:2]).shape == (7, 2)


def test_a_thumbnail_is_small_and_upright(tmp_path):
    x = np.zeros((300, 600, 3), np.uint8)
    x[:, 300:] = 255
    exif = Image.Exif()
    exif[274] = 6  # show it turned by 90 degrees clockwise
    Image.fromarray(x).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif)
    kind, data = page.thumbnail(tmp_path / "a.jpg").split(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert small.size == (112, 56)
        seen = np.asarray(small.convert("L"))
    assert seen[:, :50].mean() < 5
    assert seen[:, -50:].mean() > 250
    assert len(data) < 4000


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed: the page is parsed by the tests above")
def test_a_browser_shows_every_picture_and_a_telephone_does_not_scroll_sideways(written, tmp_path):
    file, _ = written
    look = """<script>
    const wide = document.documentElement.scrollWidth, images = [...document.images];
    const support = [...document.querySelectorAll("main > section:last-child .s")];
    const shown = images.filter(i => i.complete && i.naturalWidth > 0).length;
    document.body.innerHTML = `<p id=seen>${innerWidth} ${wide} ${images.length} ${shown} ${support.length} `
        + `${getComputedStyle(support[0]).backgroundImage.slice(0, 9)}</p>`;
    </script></body>"""
    html = file.read_text(encoding="utf-8").replace("</body>", look)
    quoted = json.dumps(html).replace("</", "<\\/")
    wrapper = f"""<!DOCTYPE html><body><iframe id=phone width=400 height=800 style="border:0"></iframe><script>
    const phone = document.getElementById("phone");
    phone.onload = () => {{ document.body.innerHTML = phone.contentDocument.getElementById("seen").outerHTML; }};
    phone.srcdoc = {quoted};
    </script></body>"""
    (tmp_path / "phone.html").write_text(wrapper, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "phone.html").as_uri()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)}
    )
    (seen,) = re.findall(r'<p id="seen">(.*?)</p>', done.stdout)
    inner, wide, pictures, shown, support, background = seen.split()
    assert int(inner) == 400
    assert int(wide) <= 400
    assert (pictures, shown, support) == ("7", "7", "9")
    assert background == 'url("data'


@pytest.mark.parametrize("place", ["absent/page.html", "folder"])
def test_a_page_that_cannot_be_written_is_refused_at_once(folders, tmp_path, tiny_backbone, capsys, place):
    support, query = folders
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit) as end:
        cli.main(
            ["predict", "lite0", "--support", str(support), "--query", str(query), "--html", str(tmp_path / place)]
        )
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtl-jax: error: ")


def test_a_page_that_fails_half_way_leaves_nothing(folders, tmp_path, tiny_backbone, monkeypatch):
    support, query = folders
    file = tmp_path / "page.html"
    file.write_text("before")

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(page, "_support", fails)
    with pytest.raises(SystemExit):
        cli.main([str(word) for word in ("predict", "lite0", "--support", support, "--query", query, "--html", file)])
    assert file.read_text() == "before"
    assert not list(tmp_path.glob("*.tmp"))
