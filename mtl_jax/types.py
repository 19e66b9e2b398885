"""The four nouns of the house: Episode, Model, Learner and TrainState.

Everything else is a function between them. Each is a NamedTuple, hence a JAX pytree
(Episode, TrainState) or a hashable static argument (Model, Learner).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
PyTree = Any


class Episode(NamedTuple):
    """One few-shot task; a meta-batch is the same tuple with a leading [tasks] axis.

    Attributes:
        support_x: [ways * shots, ...] inputs to adapt on, float32.
        support_y: [ways * shots] int32 labels in [0, ways), or float targets [n, d] for regression.
        query_x: [ways * queries, ...] inputs to be judged on, float32.
        query_y: [ways * queries] int32 labels, or float targets for regression.
        classes: [ways] int32, the pool's class behind each label (None where there are no classes).
    """

    support_x: Array
    support_y: Array
    query_x: Array
    query_y: Array
    classes: Array | None = None


class ModelInit(Protocol):
    """(key, x) -> params: fresh parameters of a network for inputs shaped as x [n, ...]."""

    def __call__(self, key: Array, x: Array, /) -> PyTree: ...


class ModelApply(Protocol):
    """(params, x, stats=None) -> (outputs, stats): one forward pass over a batch x [n, ...].

    `stats` are normalisation moments. Given, they are used; None means the moments of this very batch.
    What comes back is what the caller should pass on for further inputs of the same task: the moments that
    were used under norm="support", and None under "transductive" and "none".
    """

    def __call__(self, params: PyTree, x: Array, stats: PyTree = None, /) -> tuple[Array, PyTree]: ...


class Model(NamedTuple):
    """Any network, as pure functions."""

    init: ModelInit
    apply: ModelApply


class LearnerInit(Protocol):
    """(key, x) -> theta: all that is meta-learned, and the frozen weights, for inputs shaped as x [n, ...].

    `theta` is a dict. Weights under a top-level key "frozen" take no step: the trainer masks them out of its
    optimiser, weight decay included.
    """

    def __call__(self, key: Array, x: Array, /) -> PyTree: ...


class LearnerAdapt(Protocol):
    """(theta, support_x, support_y) -> phi: the solution of one task (weights, prototypes, a head)."""

    def __call__(self, theta: PyTree, support_x: Array, support_y: Array, /) -> PyTree: ...


class LearnerPredict(Protocol):
    """(theta, phi, x) -> outputs: logits [n, ways], or regression outputs [n, d]."""

    def __call__(self, theta: PyTree, phi: PyTree, x: Array, /) -> Array: ...


class LearnerLoss(Protocol):
    """(theta, episode) -> (scalar, metrics): its gradient in theta IS the meta-gradient of one task.

    `metrics` is a flat dict of float32 scalars; "accuracy" (or "mse") is of the query set.
    """

    def __call__(self, theta: PyTree, episode: Episode, /) -> tuple[Array, dict[str, Array]]: ...


class Learner(NamedTuple):
    """Any meta-learning method, written for ONE task; batching is the caller's vmap."""

    init: LearnerInit
    adapt: LearnerAdapt
    predict: LearnerPredict
    loss: LearnerLoss


class TrainState(NamedTuple):
    """The whole of a run, and the checkpoint.

    Attributes:
        theta: what the learner's init gave, trained so far.
        opt_state: the outer optimiser's state.
        step: [] int32, meta-steps done.
        key: the run's key; step k draws from fold_in(key, k), so that a resumed run draws the same.
        failed: the classes that hard tasks are drawn from, where there are hard tasks.
    """

    theta: PyTree
    opt_state: PyTree
    step: Array
    key: Array
    failed: PyTree = None


Sampler = Callable[[Array, PyTree], Episode]  # (key, pool) -> Episode, pure: what the trainer draws tasks with
