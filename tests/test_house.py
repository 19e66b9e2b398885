"""The house rules: how long files are, who imports whom, and what no tracked file may hold."""

import ast
import inspect
import json
import re
import statistics
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "mtl_jax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BELOW = {  # what each floor may import of the others
    "types": set(),
    "data": {"types", "models"},  # a sentence encoder is a network; models know nothing of data
    "models": {"types"},
    "learners": {"types", "data", "models"},
    "run": {"types", "data", "models", "learners"},
    "app": {"types", "data", "models", "learners", "run"},
    "cli": {"app", "run"},
}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".ipynb", ".yml", ".yaml", ".cfg", ".sh", ""}


def name(path):
    return str(path.relative_to(ROOT))


def lines(path):
    return len(path.read_text().splitlines())


def imports(source):
    """Every dotted name that a module imports, wherever the import stands; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floors_imported(source):
    """The floors of mtl_jax that a module imports; a public name of the package counts as its home's floor."""
    from mtl_jax import _HOMES

    found = set()
    for dotted in imports(source):
        package, _, rest = dotted.partition(".")
        if package == "mtl_jax" and rest and not rest.startswith("__"):  # __version__ is everyone's
            first = rest.split(".")[0]
            home = f"{_HOMES[first]}.{first}" if first in _HOMES else dotted
            found.add(home.split(".")[1])
    return found


def floor_of(path):
    return path.relative_to(ROOT / "mtl_jax").with_suffix("").parts[0]


def body_lines(source):
    """Lines of code: neither blank, nor comment, nor of the module's docstring."""
    tree = ast.parse(source)
    doc = tree.body[0] if ast.get_docstring(tree) else None
    skipped = range(doc.lineno, doc.end_lineno + 1) if doc else ()
    code = (line.strip() for n, line in enumerate(source.splitlines(), start=1) if n not in skipped)
    return sum(bool(line) and not line.startswith("#") for line in code)


def tracked_files():
    """What git keeps, and what it would; without git, all but hidden and built folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        files = [ROOT / line for line in listed]
    except (FileNotFoundError, subprocess.CalledProcessError):  # an unpacked archive
        hidden = re.compile(r"/(\.(?!ci\b)[^/]+|__pycache__|runs|out|build|dist|[^/]*\.egg-info)(/|$)")
        files = [path for path in ROOT.rglob("*") if not hidden.search(f"/{name(path)}")]
    return [path for path in files if path.is_file() and path.suffix in TEXT]


@pytest.mark.parametrize("path", SOURCES + EXPERIMENTS + TESTS, ids=name)
def test_no_file_is_over_300_lines(path):
    assert lines(path) <= 300


def test_the_median_file_has_at_most_120_lines():
    assert statistics.median(lines(path) for path in SOURCES if lines(path)) <= 120


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.name != "__init__.py" or p.parent.name != "mtl_jax"], ids=name
)
def test_a_floor_imports_only_floors_below(path):
    floor = floor_of(path)
    assert floors_imported(path.read_text()) <= BELOW[floor] | {floor}


@pytest.mark.parametrize(
    ("source", "floors"),
    [
        ("from mtl_jax import models", {"models"}),
        ("from mtl_jax import train", {"run"}),
        ("from mtl_jax import datasets", {"data"}),
        ("import mtl_jax.run.train", {"run"}),
        ("def f():\n    from mtl_jax.learners.maml import maml", {"learners"}),
        ("import jax", set()),
    ],
)
def test_every_form_of_import_is_seen(source, floors):
    assert floors_imported(source) == floors


def test_only_models_import_flax():
    users = {floor_of(path) for path in SOURCES if any(i.split(".")[0] == "flax" for i in imports(path.read_text()))}
    assert users == {"models"}


def test_what_is_imported_is_required():
    """pyproject.toml asks for each package that mtl_jax imports, not for what another happens to bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    asked = {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in asked}
    found = {i.split(".")[0] for path in SOURCES + EXPERIMENTS for i in imports(path.read_text())}
    found -= sys.stdlib_module_names | {"mtl_jax", "peers"} | {path.stem for path in EXPERIMENTS}
    homes = metadata.packages_distributions()
    needed = {module: {home.lower().replace("_", "-") for home in homes.get(module, [])} for module in found}
    assert {module for module, names in needed.items() if not names & asked} == set()


def test_the_engine_knows_no_method_no_data_set_and_no_option_by_name():
    from mtl_jax.app.methods import METHODS
    from mtl_jax.data import datasets

    words = {*METHODS, *(m.function for m in METHODS.values()), *datasets.DATASETS}
    for path in (ROOT / "mtl_jax" / "run").glob("*.py"):
        strings = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not words & strings, path.name
        assert not {s for s in strings if isinstance(s, str) and s.startswith("--")}, path.name


def test_learners_hold_no_settings_of_the_outer_loop():
    from mtl_jax import learners
    from mtl_jax.app.settings import OuterSettings, RunSettings

    outer = {*OuterSettings.__dataclass_fields__, *RunSettings.__dataclass_fields__, "tasks"}
    for path in (ROOT / "mtl_jax" / "learners").glob("*.py"):
        tree = ast.parse(path.read_text())
        dicts = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
        keys = {key.value for node in dicts for key in node.keys if isinstance(key, ast.Constant)}
        factories = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in learners.__all__]
        taken = {a.arg for node in factories for a in (*node.args.args, *node.args.kwonlyargs)}
        assert not outer & (keys | taken), path.name


def test_what_is_laid_out_by_hand_says_why():
    for path in SOURCES:
        for line in path.read_text().splitlines():
            assert "fmt: skip" not in line or re.search(r"# fmt: skip: \w+", line), f"{name(path)}: {line}"


TOOLS = {
    ROOT / "experiments" / f"{n}.py"
    for n in ("tools", "protocols", "paired", "over_backbone", "results", "tables", "performance")
}


@pytest.mark.parametrize("path", [path for path in EXPERIMENTS if path not in TOOLS], ids=name)
def test_an_experiment_says_what_it_shows_and_is_short(path):
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source))
    assert body_lines(source) <= 60


def test_no_tracked_file_names_a_registry_or_a_machine():
    # spelt in pieces, so that this file does not hold what it forbids
    hosts = ("py" + r"pi\.org", r"pythonhosted\.", "index" + r"-url", "find" + r"-links", r"artifact" + r"ory")
    paths = ("file:" + r"//", r"(?<![\w.])/" + r"(?:work|home|root|Users|mnt)/\w")
    forbidden = re.compile("|".join((*hosts, *paths)))
    assert forbidden.search("see /" + "root/x")
    assert not forbidden.search("a/root/x, /path/to/x")
    found = {}
    for path in tracked_files():
        if hits := forbidden.findall(path.read_text(encoding="utf-8")):
            found[name(path)] = hits
    assert found == {}


def test_package_project_and_changelog_agree_on_the_version():
    import mtl_jax

    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert mtl_jax.__version__ == said
    assert f"## {said}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_exact_versions():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(pins) > 50
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=name)
def test_a_notebook_has_no_output(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_every_method_has_a_reference():
    from mtl_jax import learners

    assert len(learners.__all__) >= 2
    for method in (getattr(learners, listed) for listed in learners.__all__):
        if inspect.isfunction(method):
            assert re.search(r"^Reference", inspect.getdoc(method) or "", re.MULTILINE), method.__name__


def test_help_imports_no_jax():
    command = [sys.executable, "-X", "importtime", "-m", "mtl_jax.cli", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-500:]
    assert "train" in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "mtl_jax" in loaded, "importtime printed nothing: the check checks nothing"
    assert not loaded & {"jax", "jaxlib", "flax", "optax", "orbax", "tensorflow_datasets", "matplotlib", "sklearn"}
