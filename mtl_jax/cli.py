"""mtl-jax: the command line. It parses, calls and prints; what it calls lies in mtl_jax/app."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from mtl_jax import __version__  # without JAX, as all that this module imports: help answers at once
from mtl_jax.app import commands, own_code
from mtl_jax.app.methods import METHODS, nearest
from mtl_jax.app.options import Parser

WELCOME = """\
mtl-jax: meta-transfer learning in JAX, version {version}

Try these three, as they stand (a data set is drawn here, nothing is downloaded):
  mtl-jax train protonet --dataset glyphs --steps 200 --width 32 --out runs/first
  mtl-jax eval runs/first --episodes 600
  mtl-jax predict runs/first --support my_classes/ --query photos/

Commands:
{commands}
mtl-jax COMMAND --help shows a command's options; mtl-jax train LEARNER --help those of one learner;
eval "$(mtl-jax --completion bash)" completes them."""


def once_each() -> Callable[[logging.LogRecord], bool]:
    """A filter that lets each line through once: a data set that is read split by split says all again."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        new = line not in said
        said.add(line)
        return new

    return is_new


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with exit status 2 and one line."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's code cannot write is escaped, no error
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    run, args = parse(sys.argv[1:] if argv is None else argv)
    handler = logging.StreamHandler()  # warnings, to standard error
    handler.addFilter(once_each())
    logging.basicConfig(format="mtl-jax: %(message)s", handlers=[handler])
    try:
        if hasattr(args, "no_cache"):
            from mtl_jax.run import backend

            if not args.no_cache:
                backend.use_compilation_cache()
            backend.configure_cpu()
        run(args)
    except commands.Interrupted as end:
        fail(130, str(end))
    except (ValueError, OSError) as error:
        fail(2, f"error: {error}")
    except ArithmeticError as error:
        fail(1, f"error: {error}")
    except KeyboardInterrupt:
        fail(130, "interrupted")
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fail(1, "error: out of memory: try a smaller --task-chunk, --width or --queries")


def parse(argv: Sequence[str]) -> tuple[Callable[[argparse.Namespace], None], argparse.Namespace]:
    """(The command to run, what it was given); the process ends here for help and for what cannot be parsed."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = (f"  {name:10} {about}" for name, (_, _, about) in commands.COMMANDS.items())
        print(WELCOME.format(version=__version__, commands="\n".join(lines)))
        raise SystemExit(0)
    if argv[0] == "--version":
        print(f"mtl-jax {__version__}")
        raise SystemExit(0)
    if argv[0] == "--completion":
        print(completion(argv[1] if len(argv) > 1 else "bash"))
        raise SystemExit(0)
    name, rest = argv[0], list(argv[1:])
    if name not in commands.COMMANDS:
        fail(2, f"error: unknown command {name!r}: {nearest(name, commands.COMMANDS)}")
    run, add_options, about = commands.COMMANDS[name]
    learner = None
    if name in commands.OF_LEARNER:
        learner = rest.pop(0) if rest and not rest[0].startswith("-") else None
        if learner is None:
            learner = _own_learner(rest)
        if learner is None and rest and rest[0] in ("-h", "--help"):
            print(f"usage: mtl-jax {name} LEARNER [options]\n\n{about}\n\nLEARNER is one of {', '.join(METHODS)}.")
            print(f"mtl-jax {name} LEARNER --help shows that learner's options; mtl-jax learners says what each is.")
            print(f"mtl-jax {name} --learner-file FILE.py:FUNCTION takes a factory of your own.")
            raise SystemExit(0)
        if learner not in METHODS and not own_code.is_place(learner):
            said = "no learner" if learner is None else f"unknown learner {learner!r}"
            fail(2, f"error: {said}: {nearest(str(learner), METHODS)}")
    parser = Parser(prog=" ".join(("mtl-jax", name, *([learner] if learner else []))), description=about)
    try:
        add_options(parser, learner)
    except ValueError as error:  # of a file of the user's own
        fail(2, f"error: {error}")
    args = parser.parse_all(rest)
    args.learner = learner or getattr(args, "learner", None)
    return run, args


def _own_learner(rest: list[str]) -> str | None:
    """What --learner-file names, taken out of the words of a command; None where it is not there."""
    place = next((i for i, word in enumerate(rest) if word.split("=")[0] == "--learner-file"), None)
    if place is None:
        return None
    word = rest.pop(place)
    own = word.split("=", 1)[1] if "=" in word else rest.pop(place) if place < len(rest) else ""
    try:
        return own_code.from_root(own)
    except ValueError as error:
        fail(2, f"error: --learner-file: {error}")


def completion(shell: str) -> str:
    """A script for bash, zsh or tcsh that completes commands, learners and options."""
    import shtab

    if shell not in shtab.SUPPORTED_SHELLS:
        fail(2, f"error: no completion for {shell!r}: choose one of {', '.join(shtab.SUPPORTED_SHELLS)}")
    root = Parser("mtl-jax")
    names = root.add_subparsers()
    for name, (_, add_options, about) in commands.COMMANDS.items():
        parser = names.add_parser(name, help=about)  # which shtab leaves out without help
        if name not in commands.OF_LEARNER:
            add_options(parser, None)
            continue
        below = parser.add_subparsers()
        for learner in METHODS:
            add_options(below.add_parser(learner, help=learner), learner)
    return shtab.complete(root, shell)


def fail(code: int, message: str) -> NoReturn:
    """End with a status and one line on standard error."""
    print(f"mtl-jax: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
