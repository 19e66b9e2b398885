"""What every learner refuses before it computes: settings out of range, targets that do not fit, the wrong network."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.models.precision import Rounded
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


def check_counts(least: int = 1, **counts: int | None) -> None:
    """Raise ValueError unless each count that is given is a known number of at least `least`."""
    for name, value in counts.items():
        if isinstance(value, jax.core.Tracer):
            raise ValueError(f"{name} fixes the shape of the program: give a plain number, not a traced one")
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def check_above(bound: float = 0.0, **values: Any) -> None:
    """Raise ValueError unless each value is above the bound; a traced one, of many at once, cannot be seen."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value > bound:
            raise ValueError(f"{name} must be above {bound:g}, not {value}")


def check_least(bound: float = 0.0, **values: Any) -> None:
    """Raise ValueError unless each value is at least the bound; a traced one cannot be seen."""
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not value >= bound:
            raise ValueError(f"{name} must be at least {bound:g}, not {value}")


def check_share(end: str = "]", **values: Any) -> None:
    """Raise ValueError unless each value is in [0, 1], or in [0, 1) if `end` is ")"; a traced one cannot be seen."""
    for name, value in values.items():
        traced = isinstance(value, jax.core.Tracer)
        if not traced and not (0 <= value < 1 or (value == 1 and end == "]")):
            raise ValueError(f"{name} must be in [0, 1{end}, not {value}")


def seen_labels(y: Array) -> np.ndarray | None:
    """Labels as numpy where they have values, also inside another function's trace; None while they are traced."""
    return None if isinstance(y, jax.core.Tracer) else np.asarray(y)


def is_labels(y: Array) -> bool:
    """Whether targets are integers: class labels."""
    return bool(jnp.issubdtype(y.dtype, jnp.integer))


def check_labels(y: Array, ways: int, of: str = "labels") -> None:
    """Raise ValueError where a label is seen to be outside [0, ways)."""
    seen = seen_labels(y)
    if seen is None or not seen.size or (seen.min() >= 0 and seen.max() < ways):
        return
    wrong = seen.min() if seen.min() < 0 else seen.max()
    raise ValueError(f"{of} hold {wrong}, where {ways} ways have labels 0 to {ways - 1}")


def check_targets(x: Array, y: Array, part: str, labels_only: bool = False) -> None:
    """Raise ValueError unless y are targets of x: integer labels [n], or float targets [n, d] where these are known.

    Warns where float targets look like one-hot labels, which are fitted as a regression.
    """
    inputs, given = len(jax.tree.leaves(x)[0]), f"{part}_y {y.dtype} {list(y.shape)}"
    if not inputs or y.ndim == 0 or inputs != len(y):
        raise ValueError(f"{part}_x holds {inputs} examples, which {given} does not fit: want a target for each")
    if is_labels(y):
        if y.ndim != 1:
            raise ValueError(
                f"{given} are no labels [{inputs}]: give a regression float targets, and vmap over a batch of tasks"
            )
        if (seen := seen_labels(y)) is not None and seen.min() < 0:
            raise ValueError(f"{part}_y hold {seen.min()}: labels count from 0")
        return
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise ValueError(f"{given} are neither integer labels nor float targets")
    if labels_only:
        raise ValueError(
            f"a classification wants integer labels [{inputs}], not {given}: take argmax(-1) of one-hot ones"
        )
    seen = seen_labels(y)
    if seen is not None and y.ndim == 2 and y.shape[1] > 1 and np.isin(seen, (0, 1)).all() and (seen.sum(1) == 1).all():
        warnings.warn(
            f"{given} look one-hot but are floats, so that this is a regression: of labels take argmax(-1)",
            stacklevel=4,
        )


def check_head_ways(outputs: int, support_y: Array) -> None:
    """Raise ValueError where support labels are seen to make other ways than a network's head has outputs."""
    seen = seen_labels(support_y) if is_labels(support_y) else None
    if seen is not None and seen.max() + 1 != outputs:
        raise ValueError(
            f"the network has {outputs} outputs, and labels 0 to {seen.max()} make {seen.max() + 1} ways: "
            f"build it with ways={seen.max() + 1}"
        )


def checked(learner: Learner, labels_only: bool = False, of_source: bool = False) -> Learner:
    """The same learner, which looks at the task's shapes, and at labels that have values, before it computes.

    Args:
        learner: the method.
        labels_only: whether float targets are refused.
        of_source: whether `loss` is of the source's classes, whose labels are its own to look at and whose support set
            may be empty.
    """

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> PyTree:
        check_targets(support_x, support_y, "support", labels_only)
        return learner.adapt(theta, support_x, support_y)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        if of_source:
            return learner.loss(theta, episode)
        only = labels_only or episode.classes is not None
        check_targets(episode.support_x, episode.support_y, "support", only)
        check_targets(episode.query_x, episode.query_y, "query", only)
        return learner.loss(theta, episode)

    return Learner(broadcasting(learner.init), broadcasting(adapt), broadcasting(learner.predict), broadcasting(loss))


def warn_of_rounding(net: Model, inner_steps: int) -> None:
    """Warn where several inner steps pass through the whole of a network in bfloat16: see docs/precision.md."""
    if isinstance(net.apply, Rounded) and inner_steps > 1:
        warnings.warn(
            f"{inner_steps} inner steps through a network in bfloat16 turn the meta-gradient away from float32's: "
            "take one step, a lower rate or float32",
            stacklevel=3,
        )


def feature_network(net: Model, method: str, maps: bool = False) -> Model:
    """The same network, refused where it has a head or gives other than features [n, d] (or maps [n, h, w, c]).

    Raises:
        ValueError: in init or while tracing.
    """
    build = "conv4(ways=None, maps=True)" if maps else "conv4(ways=None)"

    def check(params: PyTree) -> None:
        if isinstance(params, Mapping) and "head" in params:
            raise ValueError(f"{method} takes a network's features: build it without a head, as {build}")

    def init(key: Array, x: Array) -> PyTree:
        params = net.init(key, x)
        check(params)
        return params

    def apply(params: PyTree, x: Array, stats: PyTree = None) -> tuple[Array, PyTree]:
        check(params)
        out, stats = net.apply(params, x, stats)
        if out.ndim != (4 if maps else 2):
            wanted = "feature maps [n, h, w, c]" if maps else "features [n, d]"
            raise ValueError(f"{method} wants {wanted}, as {build} gives, not {list(out.shape)}")
        return out, stats

    return Model(init, apply)


def split_head(params: PyTree) -> tuple[dict[str, Any], PyTree]:
    """A network's parameters as (all but the head, the head).

    Raises:
        ValueError: there is no head.
    """
    if not isinstance(params, Mapping) or "head" not in params:
        names = ", ".join(map(str, params)) if isinstance(params, Mapping) else type(params).__name__
        raise ValueError(f"the network has no head among its {names}: build it with ways, as conv4(ways=5)")
    return {name: layer for name, layer in params.items() if name != "head"}, params["head"]


def head_features(net: Model, body: PyTree, head: PyTree, x: Array) -> tuple[Array, PyTree]:
    """(Features of x [n, d], moments) of a network without its head, where that is linear: {kernel [d, ways], bias}.

    Raises:
        ValueError: the head is another, or the network gives other features without it (while tracing).
    """
    if not isinstance(head, Mapping) or set(head) != {"kernel", "bias"} or head["kernel"].ndim != 2:
        raise ValueError("the network's head must be linear: {kernel [d, ways], bias [ways]} under theta['head']")
    features, stats = net.apply(body, x, None)
    if features.ndim != 2 or features.shape[1] != len(head["kernel"]):
        raise ValueError(
            f"the network's apply without 'head' must give features [n, {len(head['kernel'])}], which its head takes, "
            f"not {list(features.shape)}"
        )
    return features, stats


def check_linear_head(net: Model, params: PyTree, x: Array) -> None:
    """Raise ValueError unless the network splits into features and a linear head, as `head_features` wants it."""
    body, head = split_head(params)
    try:
        jax.eval_shape(lambda body, head, x: head_features(net, body, head, x)[0], body, head, x)
    except ValueError:
        raise
    except Exception as error:  # a network of another's make, which does not know the contract
        kind = type(error).__name__
        raise ValueError(
            f"the network's apply must give features where 'head' is left out; it fails: {kind}"
        ) from error
