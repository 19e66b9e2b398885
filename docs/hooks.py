"""What mkdocs makes while it builds: a page per method, from the method's docstring and source."""

import ast
import inspect
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mtl_jax.app.methods import METHODS, Method  # without JAX

LEARNERS = Path(__file__).parent.parent / "mtl_jax" / "learners"
NETWORKS = {"head": "an output per class", "features": "features, without a head", "maps": "feature maps"}
TRAINS_ON = {"tasks": "tasks", "batches": "batches of all source classes"}
CHINESE = "[\u3000-\u9fff\uff00-\uffef]"
SECTION = re.compile(r"^(Args|Returns|Raises|Reference|Note)\b", re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """Put the methods, and pages that mkdocs.yml does not name, into the navigation."""
    nav: list[Any] = config.nav or []
    place = next(i for i, entry in enumerate(nav) if "Methods" in entry)
    nav[place] = {"Methods": ["methods/index.md", *({name: f"methods/{name}.md"} for name in METHODS)]}
    named = str(nav)
    more = sorted(path.name for path in Path(config.docs_dir).glob("*.md") if f"'{path.name}'" not in named)
    nav[-1:-1] = [{name.removesuffix(".md").replace("_", " ").capitalize(): name} for name in more]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the methods' pages."""
    for name, method in METHODS.items():
        files.append(File.generated(config, f"methods/{name}.md", content=page(name, method)))
    files.append(File.generated(config, "methods/index.md", content=overview()))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Join lines that end and go on in Chinese, where a line break would be shown as a space."""
    return re.sub(f"(?<={CHINESE})\\n(?={CHINESE})", "", markdown)


def overview() -> str:
    """A table of all methods."""
    rows = []
    for name, method in METHODS.items():
        doc, _ = read(method)
        rows.append(f"| [{name}]({name}.md) | {doc.splitlines()[0]} | {reference(doc)} |")
    head = "# Methods\n\nEach is a function from settings to a `Learner`; one page each, made from its source.\n\n"
    return head + "| method | what it is | paper |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def page(name: str, method: Method) -> str:
    """A method's page: what it is, its update rule beside its code, its arguments, and how to call it."""
    doc, code = read(method)
    first, _, rest = SECTION.split(doc)[0].partition("\n")
    rule = re.sub(r"(?<=[,;])  +", "\n", rest.strip() or first)  # a formula per line: the column is narrow
    network, trains_on = NETWORKS[method.network], TRAINS_ON[method.trains_on]
    before = "A network that is pre-trained on all source classes comes first." if method.pretrained else ""
    return f"""---
hide: [toc]
---
# {name}

{first} {reference(doc)}

<div class="pair" markdown>
<div class="rule" markdown>

**Update rule**

```text
{rule}
```

**Call**

```python
learners.{method.function}(net, ...)
```
```sh
mtl-jax train {name} --dataset glyphs
mtl-jax train {name} --help
```

Trains on {trains_on}, with a network that gives {network}. {before}

</div>
<div markdown>

**Code** (`mtl_jax/learners/{method.file}.py`)

```python
{code}
```

</div>
</div>

## Arguments

::: mtl_jax.learners.{method.file}.{method.function}
"""


def read(method: Method) -> tuple[str, str]:
    """(The docstring of a method's factory; its source without the docstring.)"""
    source = (LEARNERS / f"{method.file}.py").read_text(encoding="utf-8")
    found = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == method.function]
    node, lines = found[0], source.splitlines()
    text = node.body[0]
    assert isinstance(text, ast.Expr)
    kept = lines[node.lineno - 1 : text.lineno - 1] + lines[text.end_lineno : node.end_lineno]
    return inspect.cleandoc(ast.get_docstring(node) or ""), dedent("\n".join(kept))


def reference(doc: str) -> str:
    """The paper that a docstring names, on one line."""
    match = re.search(r"^Reference\w*:\s*(.+?)(?:\n\s*\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(match[1].split()) if match else ""
