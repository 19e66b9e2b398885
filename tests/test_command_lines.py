"""Command lines by the hundred: each is taken, or ends with exit status 2 and one line that begins with mtl-jax."""

import contextlib
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtl_jax import cli
from mtl_jax.app import commands
from mtl_jax.app.methods import METHODS
from mtl_jax.app.options import Parser

NUMBERS = ("0", "1", "5", "-1", "1.5", "1e-3", "1e38", "nan", "inf", "-inf", "1000000000", "1" + "0" * 30, "0x10", "٣")
WORDS = (
    "",
    " ",
    "none",
    "maml",
    "glyphs",
    "folder:",
    "folder:nowhere",
    "npz:x",
    "tfds:",
    "/dev/null",
    "a=b",
    "tasks=1,2",
    "😀",
)
values = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=8))


def flags_of(name, learner):
    parser = Parser(prog="x")
    commands.COMMANDS[name][1](parser, learner)
    return sorted(parser._option_string_actions)


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(sorted(commands.COMMANDS)))
    learner = draw(st.sampled_from([*METHODS, "nothing"])) if name in commands.OF_LEARNER else None
    line = [name, *([learner] if learner else [])]
    known = flags_of(name, learner if learner in METHODS else "maml")
    for _ in range(draw(st.integers(0, 4))):
        flag = draw(st.one_of(st.sampled_from(known), st.sampled_from(("--nothing", "-x", "--inner-steps", "word"))))
        line += [flag, *draw(st.lists(values, max_size=2))]
    return line


def reached(*_, **__):
    raise ValueError("all of it was taken")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(line=command_lines())
def test_any_command_line_is_taken_or_refused_in_one_line(line, tmp_path, monkeypatch):
    import mtl_jax.app.bench
    import mtl_jax.app.launch

    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(mtl_jax.app.launch, "launch", reached)
        patch.setattr(mtl_jax.app.launch, "launch_seeds", reached)
        patch.setattr(mtl_jax.app.bench, "bench", reached)
        patch.setattr("mtl_jax.run.backend.configure_cpu", lambda: None)
        patch.setattr("mtl_jax.run.backend.use_compilation_cache", lambda: None)
        patch.setattr("mtl_jax.run.processes.join_processes", reached)
        said, printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            try:
                cli.main(line)
                code = 0
            except SystemExit as end:
                code = end.code or 0
        assert code in (0, 2), (line, said.getvalue())
        if code == 2:
            last = said.getvalue().strip().splitlines()
            assert len(last) == 1, (line, last)
            assert last[0].startswith("mtl-jax: "), last


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["train", "maml", "--dataset", "glyphs", "--tasks", "1000000000"], "tasks must be at most 1000000"),
        (["train", "maml", "--dataset", "glyphs", "--coordinator", "a:1"], "are of --distributed: give that as well"),
        (["train", "maml", "--dataset", "glyphs", "--distributed"], "in the same --out DIR of every process"),
        (["train", "maml", "--dataset", "glyphs", "--on-nonfinite", "ignore"], "choose one of stop, skip"),
    ],
)
def test_what_is_wrong_is_said(line, said, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(line)
    assert end.value.code == 2
    assert said in capsys.readouterr().err
