"""Settings and factories' arguments as options of the command line."""

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from mtl_jax.app.methods import METHODS, defaults_of, find_method, has_setting, method_options
from mtl_jax.app.settings import GROUPS, NORMS, all_fields, check, kind_of

OF_BENCH = {
    "ways",
    "shots",
    "queries",
    "tasks",
    "batch",
    "model",
    "model_file",
    "width",
    "norm",
    "downsample",
    "precision",
    "seed",
    "task_chunk",
}
COMMON = {"--json": "print one JSON object", "--no-cache": "compile anew: no cache of compiled programs"}


class Parser(argparse.ArgumentParser):
    """argparse with errors in one line, which name the options there are."""

    def __init__(self, prog: str, description: str = ""):
        super().__init__(prog, description=description, allow_abbrev=False, formatter_class=_Help)

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        self.exit(2, f"mtl-jax: error: {' '.join(message.split())} (see {self.prog} --help)\n")

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """parse_args, whose error for an unknown option names the nearest and all there are."""
        args, rest = self.parse_known_args(argv)
        odd = next((word for word in rest if word.startswith("-")), None)
        if odd is not None:
            given = odd.split("=")[0]
            have = [o for o in self._option_string_actions if o.startswith("--") and not o.startswith("--no-")]
            close = difflib.get_close_matches(given, have, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            self.error(f"{self.prog.removeprefix('mtl-jax ')} has no option {given}: {meant}it has {', '.join(have)}")
        if rest:
            self.error(f"too many arguments: {' '.join(rest)}")
        return args


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30, width=100)


def add_learner_options(parser: Parser, learner: str, names: Iterable[str] | None = None, **told: Any) -> None:
    """The options of a learner, in groups, each with its default.

    Args:
        parser: gets them; none has a default there, so that what is given can be told from what is not.
        learner: its command-line name.
        names: those of the common settings that the command takes; all unless given.
        told: defaults to tell in the help in place of the learner's.
    """
    method = find_method(learner)
    defaults, own = {**defaults_of(learner), **told}, method_options(method)
    for group in GROUPS:
        section = parser.add_argument_group((group.__doc__ or "").rstrip(".").lower())
        for each in fields(group):
            wanted = (names is None or each.name in names) and each.name in defaults and each.name not in own
            if wanted and has_setting(method, each.name):
                add_setting(section, each.name, defaults[each.name])
    section = parser.add_argument_group(f"{learner}'s own")
    for name, option in own.items():
        _add(section, name, option.kind, defaults[name], option.about, {"choices": option.choices}, option.optional)


def add_setting(section: Any, name: str, default: Any = None) -> None:
    """One of the common settings as an option; `default` is only told."""
    each = all_fields()[name]
    kind, about = kind_of(each), each.metadata["about"]
    if kind is not None:
        _add(section, name, kind, default, about, each.metadata, False)
    elif name == "sizes":
        section.add_argument("--sizes", nargs="+", type=_size, default=argparse.SUPPRESS, metavar="W,S,Q", help=about)
    else:
        told = "" if default is None else f" (default: {','.join(f'{k}={v:g}' for k, v in default.items())})"
        section.add_argument(
            flag(name), type=_multipliers, default=argparse.SUPPRESS, metavar="PART=FACTOR", help=about + told
        )


def spell_option(name: str, value: Any) -> str:
    """A setting as the command line takes it: --no-host, --sizes 20,1,5 20,5,5, --lr-multipliers frozen=0.1."""
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no_{name}")
    if isinstance(value, Mapping):
        return f"{flag(name)} {','.join(f'{k}={v:g}' for k, v in value.items())}"
    if isinstance(value, list | tuple):
        return f"{flag(name)} {' '.join(','.join(map(str, row)) for row in value)}"
    return f"{flag(name)} {value}"


def _add(
    section: Any, name: str, kind: type, default: Any, about: str, limits: Mapping[str, Any], optional: bool
) -> None:
    text = about.rstrip(".").replace("%", "%%") + ("" if default is None else f" (default: {default})")
    if kind is bool:
        action = argparse.BooleanOptionalAction
        section.add_argument(flag(name), action=action, default=argparse.SUPPRESS, help=text)
        return
    metavar = "|".join(limits.get("choices", ())) or {int: "N", float: "X", str: "WORD"}[kind]
    section.add_argument(
        flag(name), type=value_of(name, kind, limits, optional), default=argparse.SUPPRESS, metavar=metavar, help=text
    )


def value_of(name: str, kind: type, limits: Mapping[str, Any], optional: bool = False) -> Callable[[str], Any]:
    """A converter from text, for argparse; "none" is None where that is allowed."""

    def convert(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        try:
            return check(name, text if kind is str else _number(text, kind), kind, limits)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _number(text: str, kind: type) -> Any:
    try:
        return int(text) if re.fullmatch(r"[+-]?\d{1,30}", text, re.ASCII) else float(text)
    except ValueError as error:
        raise ValueError(f"must be a {'whole ' if kind is int else ''}number, not {text}") from error


def count(name: str, most: int = 10**7, least: int = 1) -> Callable[[str], Any]:
    """A converter for a whole number from `least` to `most`."""
    return value_of(name, int, {"least": least, "most": most})


def image(text: str) -> list[int]:
    """HEIGHTxWIDTHxCHANNELS as three numbers."""
    if not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}x[1-9]\d{0,2}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTHxCHANNELS, such as 28x28x1, not {text}")
    return [int(part) for part in text.split("x")]


def add_norm(parser: Parser, told: str) -> None:
    """--norm, whose default is only told."""
    limits = {"choices": NORMS}
    text = f"whose moments normalise the queries (default: {told})"
    parser.add_argument(
        "--norm", type=value_of("norm", str, limits), default=argparse.SUPPRESS, metavar="|".join(NORMS), help=text
    )


def add_common(parser: Parser, *flags: str) -> None:
    """The switches that many commands share."""
    for flag in flags:
        parser.add_argument(flag, action="store_true", help=COMMON[flag])


def given_settings(args: argparse.Namespace, learner: str) -> dict[str, Any]:
    """What was given of the learner's settings, flat, with "learner"."""
    known = {*all_fields(), *method_options(find_method(learner))}
    return {"learner": learner, **{k: v for k, v in vars(args).items() if k in known}}


def learners_in_short() -> str:
    """The names of all learners."""
    return ", ".join(METHODS)


def flag(name: str) -> str:
    """A setting's name as the command line writes it."""
    return "--" + name.replace("_", "-")


def _size(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,6},\d{1,6},\d{1,6}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be WAYS,SHOTS,QUERIES, such as 5,1,15, not {text}")
    return tuple(int(part) for part in text.split(","))


def _multipliers(text: str) -> dict[str, float]:
    pairs = re.findall(r"([^=,]+)=([^=,]+)", text)
    try:
        if ",".join("=".join(pair) for pair in pairs) != text or not pairs:
            raise ValueError(text)
        return {name: float(value) for name, value in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be PART=FACTOR,..., such as head=10, not {text}") from error
