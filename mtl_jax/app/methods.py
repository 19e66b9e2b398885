"""Every method by its command-line name, and what the application must know to make a learner of its factory.

JAX is imported where something is built, not with this module: the command line names methods and defaults at once.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mtl_jax.app import own_code
from mtl_jax.app.settings import (
    FROZEN,
    GROUPS,
    NORMS,
    OWN,
    WIDTHS,
    NetworkSettings,
    Settings,
    all_fields,
    check,
    checked_group,
    flat,
)
from mtl_jax.app.signatures import Factory, Option, read_factory

LEARNERS = Path(__file__).parent.parent / "learners"


class Method(NamedTuple):
    """A factory of mtl_jax/learners, and what it wants of the application.

    Attributes:
        file: its file there, without ".py".
        function: its name there.
        network: what its network gives: "head", an output per class, so that it solves tasks of as many ways as it was
            trained on; "features"; or "maps", feature maps.
        trains_on: "tasks", or "batches" of all source classes.
        pretrained: its body is pre-trained on all source classes, by itself unless it is given.
        needs: arguments of the factory that the application fills: "ways" of the tasks, "classes" of the source,
            "width" and "norm" of the network, "progress" of the run, the "teacher" of its pre-training.
        prefers: settings of the outer loop that differ from everyone's.
        undecayed: theta's keys that weight decay leaves alone.
        transductive: its answer for a query depends on the task's other queries, whatever the network's normalisation.
    """

    file: str
    function: str
    network: str = "head"
    trains_on: str = "tasks"
    pretrained: bool = False
    needs: tuple[str, ...] = ()
    prefers: Mapping[str, Any] = {}
    undecayed: tuple[str, ...] = ()
    transductive: bool = False


FAST = {"meta_lr": 2e-3}
# The authors' for 5 ways: 1 shot and 9 queries are 10 training shots; SGD at rate 1 goes all the way to the mean phi.
MEAN_PHI = {"queries": 9, "tasks": 5, "optimizer": "sgd", "meta_lr": 1.0, "schedule": "linear", "clip": 0.0}
# Gates start far from where they end; what changes the body learns at a tenth of the head's rate, as their authors' do.
GATES = {"tasks": 1, "meta_lr": 2e-3, "clip": 0.25, "lr_multipliers": {"gates": 10.0}}
SLOW_BODY = {"lr_multipliers": {"scale": 0.1, "shift": 0.1, "adapters": 0.1, "body": 0.1}}
ONE_BATCH = {"tasks": 1, "meta_lr": 2e-3}
QUICK_CENTRE = {**ONE_BATCH, "lr_multipliers": {"centre": 10.0}}  # which starts at 0, far from where it ends
OF_SOURCE = ("classes", "ways")
TAUGHT = (*OF_SOURCE, "teacher")
OUTSIDE = ("ways", "classes", "width", "norm", "progress", "teacher")  # what `needs` may hold
METHODS: Mapping[str, Method] = {
    "maml": Method("maml", "maml"),
    "fomaml": Method("maml", "fomaml"),
    "anil": Method("anil", "anil"),
    "boil": Method("boil", "boil"),
    "cavia": Method("cavia", "cavia"),
    "meta-sgd": Method("meta_sgd", "meta_sgd"),
    "mamlpp": Method("mamlpp", "mamlpp", needs=("progress",)),
    "proto-maml": Method("proto_maml", "proto_maml", "features", needs=("ways",)),
    "imaml": Method("imaml", "imaml"),
    "reptile": Method("reptile", "reptile", prefers=MEAN_PHI),
    "protonet": Method("protonet", "protonet", "features", needs=("ways",), prefers=FAST),
    "matching": Method("matching", "matching", "features", needs=("ways",), prefers=FAST),
    "relation": Method("relation", "relation", "maps", needs=("ways", "width", "norm"), prefers={"clip": 0.5}),
    "r2d2": Method("ridge", "r2d2", "features", needs=("ways",), prefers=FAST),
    "lstm": Method("lstm", "lstm", prefers=GATES),
    "mtl": Method("mtl", "mtl", pretrained=True, prefers=SLOW_BODY, undecayed=("scale",)),
    "finetune": Method("finetune", "finetune", "features", "batches", needs=TAUGHT, prefers=ONE_BATCH),
    "baseline-pp": Method("finetune", "baseline_pp", "features", "batches", needs=OF_SOURCE, prefers=ONE_BATCH),
    "simpleshot": Method("simpleshot", "simpleshot", "features", "batches", needs=OF_SOURCE, prefers=QUICK_CENTRE),
    "rfs": Method("rfs", "rfs", "features", "batches", needs=TAUGHT, prefers=ONE_BATCH),
    "meta-baseline": Method("meta_baseline", "meta_baseline", "features", pretrained=True, needs=("ways",)),
    "feat": Method("feat", "feat", "features", pretrained=True, needs=("ways",)),
    "metaoptnet": Method("metaoptnet", "metaoptnet", "features", needs=("ways",), prefers=FAST),
    "simple-cnaps": Method("simple_cnaps", "simple_cnaps", "features", pretrained=True, needs=("ways",)),
    "pmf": Method("pmf", "pmf", "features", pretrained=True, needs=("ways",)),
    "tsa": Method("tsa", "tsa", "features", "batches", needs=OF_SOURCE, prefers=ONE_BATCH),
    "tim": Method("tim", "tim", "features", "batches", needs=OF_SOURCE, prefers=ONE_BATCH, transductive=True),
    "bdcspn": Method("bdcspn", "bdcspn", "features", "batches", needs=OF_SOURCE, prefers=ONE_BATCH, transductive=True),
}


def find_method(name: Any) -> Method:
    """The method of a command-line name; ValueError, with the nearest name, if there is none.

    Of FILE.py:FUNCTION, a factory of one's own, its arguments say what it wants: one with `ways` gets a network without
    head, one with `classes` trains on batches of all source classes.
    """
    if own_code.is_place(name):
        path, function = own_code.find(name)
        arguments = read_factory(path, function).parameters
        network, trains_on = (
            "features" if "ways" in arguments else "head",
            "batches" if "classes" in arguments else "tasks",
        )
        needs = tuple(k for k in OUTSIDE if k in arguments)
        return Method(str(path.with_suffix("")), function, network, trains_on, needs=needs)
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"unknown learner {name!r}: {nearest(str(name), METHODS)}")
    return METHODS[name]


def nearest(word: str, known: Iterable[str]) -> str:
    """What to say to a word that is not known: the one meant, or all there are."""
    known = list(known)
    plain = {each.lower().replace("_", "-"): each for each in known}
    close = difflib.get_close_matches(word.lower().replace("_", "-"), plain, n=1, cutoff=0.6)
    return (
        f"did you mean {plain[close[0]]!r}? There are {', '.join(known)}"
        if close
        else f"choose one of {', '.join(known)}"
    )


def factory_of(method: Method) -> Factory:
    """What the method's source says of its factory."""
    return read_factory(LEARNERS / f"{method.file}.py", method.function)


def method_options(method: Method) -> dict[str, Option]:
    """The settings that are the method's own, by name."""
    return {option.name: option for option in factory_of(method).options if option.name not in method.needs}


def has_setting(method: Method, name: str) -> bool:
    """Whether one of the common settings concerns the method."""
    only = all_fields()[name].metadata.get("only")
    has = {of: method.trains_on == of for of in ("tasks", "batches")} | {"taught": "teacher" in method.needs}
    return only is None or has.get(only, method.pretrained)


def defaults_of(name: str) -> dict[str, Any]:
    """Every setting of a learner that can be given, with what stands unless it is."""
    method = find_method(name)
    common = {
        k: each.default
        for k, each in all_fields().items()
        if each.metadata.get("option", True) and has_setting(method, k)
    }
    return {**common, **method.prefers, **{k: option.default for k, option in method_options(method).items()}}


def resolve_settings(given: Mapping[str, Any]) -> Settings:
    """Every setting of a learner: those given; the others by the method's preference, then everyone's.

    Args:
        given: flat settings, with "learner" among them.

    Returns:
        Settings, each value checked.

    Raises:
        ValueError: an unknown learner; a setting that it does not have, or a value out of range.
    """
    name = given.get("learner")
    method = find_method(name)
    own = method_options(method)
    known = {k for k in all_fields() if has_setting(method, k)} | {*own, "learner"}
    if odd := [k for k in given if k not in known]:
        raise ValueError(f"{name} has no setting {odd[0]!r}: {nearest(odd[0], sorted(known - {'learner'}))}")
    values = {**method.prefers, **{k: v for k, v in given.items() if k != "learner"}}
    if values.get("model_file") is not None:
        values = {"model": "file", **own_network(values)}
    if (backbone := values.get("backbone")) is not None:  # features are vectors, of moments that are settled
        if Path(check("backbone", backbone, str, {})).suffix:  # a file, from the root: the run is evaluated anywhere
            backbone = str(Path(backbone).expanduser().resolve())
        values = {"model": "linear", "norm": FROZEN, **values, "backbone": backbone}
    task, network, outer, run = (
        checked_group(group, {k: v for k, v in values.items() if k not in own}) for group in GROUPS
    )
    mine = {}
    for key, option in own.items():
        value = values.get(key, option.default)
        if value is None and not option.optional:
            raise ValueError(f"{key.replace('_', '-')} of {name} cannot be left empty: its default is {option.default}")
        mine[key] = None if value is None else check(key, value, option.kind, {"choices": option.choices})
    if (network.model == "file") != (network.model_file is not None):
        raise ValueError("model file is what --model-file FILE.py:FUNCTION makes: give that, and no other model")
    if network.model != "conv4" and network.downsample is not None:
        raise ValueError(f"downsample is conv4's: leave it out with {network.model}")
    if network.init_head and network.init is None:
        raise ValueError("init head is that of --init's run: give that too, or leave init-head out")
    _check_backbone(network, task.augment)
    if network.model == "linear" and network.width is not None:
        raise ValueError("a linear network has no hidden units: leave width out, or use --model mlp")
    place = task.split_file and str(Path(task.split_file).expanduser().resolve())
    named = _from_anywhere(task.dataset, task.group_by)
    task = replace(task, dataset=named, group_by=None, split_file=place)  # the group is in the name
    downsample = network.downsample or ("pool" if network.model == "conv4" else None)
    network = replace(network, width=network.width or WIDTHS[network.model], downsample=downsample)
    name = own_code.from_root(str(name)) if own_code.is_place(name) else str(name)
    return Settings(name, task, network, outer, run, mine)


def _check_backbone(network: NetworkSettings, augment: str | None) -> None:
    """ValueError where a network, a norm or an augmentation does not go with a frozen backbone, or with none."""
    if network.norm == OWN and network.model != "file":
        raise ValueError(f"norm own is that of a network of --model-file: choose one of {', '.join(NORMS)}")
    if network.backbone is None:
        if network.norm == FROZEN:
            raise ValueError(f"norm frozen is a backbone's: choose one of {', '.join(NORMS)}, or give --backbone")
        return
    if network.model not in ("linear", "mlp", "file"):
        raise ValueError(f"a backbone's features are vectors, which {network.model} does not take: linear or mlp does")
    if network.norm != FROZEN:
        raise ValueError(f"a backbone keeps its own stored moments (norm frozen), not {network.norm}: leave norm out")
    if augment not in (None, "none"):
        raise ValueError(f"a backbone's features are made once, and cannot be augmented by {augment}: leave it out")


def own_network(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with what a function of one's own lacks refused, or said to be none."""
    place = own_code.from_root(check("model_file", values["model_file"], str, {}))
    path, function = own_code.find(place)
    arguments = read_factory(path, function).parameters
    if "ways" not in arguments:
        raise ValueError(f"{place} has no argument ways: outputs of its head, None for features alone")
    if values.get("width") is not None and "width" not in arguments:
        raise ValueError(f"{place} has no argument width: leave --width out")
    if "norm" in arguments:
        return {**values, "model_file": place}
    if values.get("norm", OWN) not in (OWN, FROZEN):
        raise ValueError(f"{place} has no argument norm: leave --norm out")
    return {"norm": FROZEN if values.get("backbone") else OWN, **values, "model_file": place}


def _from_anywhere(dataset: str | None, group: str | None) -> str | None:
    """The data set's name with its path from the root, so that the run can be evaluated from anywhere; and groups."""
    kind, colon, where = (dataset or "").partition(":")
    if group is not None:
        if kind != "folder":
            raise ValueError(
                "group-by is of the names of a folder's images: give --dataset folder:/path, or leave it out"
            )
        if "group=" in where.partition("?")[2]:
            raise ValueError(f"{dataset} names its groups already: leave --group-by out")
        where += ("&" if "?" in where else "?") + f"group={quote(group, safe='')}"
        dataset = f"{kind}:{where}"
    if not colon or kind not in ("folder", "npz", "csv", "wav"):
        return dataset
    path, mark, options = where.partition("?")
    return f"{kind}:{Path(path).expanduser().resolve()}{mark}{options}" if path else dataset


def change(settings: Settings, **changes: Any) -> Settings:
    """The same settings but for those named."""
    return resolve_settings({**given_of(settings), **changes})


def given_of(settings: Settings) -> dict[str, Any]:
    """Flat settings as `resolve_settings` takes them: all that this learner has."""
    method = find_method(settings.learner)
    names = all_fields()
    return {k: v for k, v in flat(settings).items() if k in settings.method or k not in names or has_setting(method, k)}


def with_test_steps(settings: Settings, steps: int) -> Settings:
    """The settings of the same learner that adapts with another number of inner steps; theta fits both."""
    for name in ("test_steps", "inner_steps"):
        if name in settings.method:
            return change(settings, **{name: steps})
    raise ValueError(f"{settings.learner} adapts without gradient steps: leave --inner-steps out")


def test_steps(settings: Settings) -> int:
    """How many inner steps the learner takes at test, 0 for none."""
    return settings.method.get("test_steps") or settings.method.get("inner_steps") or 0


def note_on_shots(settings: Settings, shots: Iterable[int]) -> str | None:
    """What to say where a method adds up a class's support and meets another number of shots than in its training."""
    task = settings.task
    trained = {size[1] for size in task.sizes} if task.sizes else {task.shots}
    if settings.method.get("combine") != "sum" or trained.issuperset(shots):
        return None
    return (
        f"{settings.learner} adds up a class's support images and was trained with "
        f"{' or '.join(map(str, sorted(trained)))} per class: with another number it does badly; one trained with "
        "--combine mean takes any"
    )
