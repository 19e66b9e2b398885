"""The five nouns: Episode, Model, Learner, TrainState and TaskSource.

Everything else is a function between them. Each is a NamedTuple, hence a JAX pytree
(Episode, TrainState) or a hashable static argument (Model, Learner, TaskSource).
"""

from collections.abc import Callable, Iterator
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
    """Any network, as pure functions.

    `params` is a tree of arrays. A network for methods that adapt or replace its last layer is a dict with that layer
    under the key "head", {"kernel": [features, outputs], "bias": [outputs]}; `apply` of the params without "head" gives
    features [n, features]. A network without head gives features alone.
    """

    init: ModelInit
    apply: ModelApply


class LearnerInit(Protocol):
    """(key, x) -> theta: all that is meta-learned, and the frozen weights, for inputs shaped as x [n, ...].

    `theta` is a network's parameters, or a dict that holds them under one of these keys beside what else is learned:
    "net", the whole network; "frozen", a body that takes no step (the trainer masks it out of its optimiser, weight
    decay included); "body", a body that learns. Its last layer may lie apart under "head".
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
        tasks: the state of the run's TaskSource.
    """

    theta: PyTree
    opt_state: PyTree
    step: Array
    key: Array
    tasks: PyTree = ()


TaskDraw = Callable[[Array, PyTree, PyTree], Episode]  # (key, state, pool) -> one task, pure
TaskFeed = Callable[
    [Array, Any, int, int, int], Iterator[PyTree]
]  # (key, pool, tasks, start, stop) -> one tree per step


class TaskSource(NamedTuple):
    """Where the tasks of a run come from, as pure functions; `mtl_jax.data.sources` has one factory per kind.

    Attributes:
        init: key -> state, what the source remembers from step to step: any tree of arrays, () for nothing. It is part
            of the checkpoint.
        draw: (key, state, pool) -> Episode, one task of static shape. A tuple of such functions is one per size of
            episode: every step takes one of them at random, for all of its tasks.
        update: (state, tasks, outcome) -> state, after every step; None if nothing changes. `tasks` is the meta-batch,
            an Episode with a leading [tasks] axis whose inputs are left out (None); `outcome` is a dict of what the
            learner made of it before the step: "outputs" [tasks, n, ways] for the queries, and "accuracy" (or "mse")
            [tasks].
        feed: for tasks that are drawn outside the compiled step, (key, pool, tasks, start, stop) -> iterator that gives
            for each step from `start` to `stop` a tree with a leading [tasks] axis; `draw` is then given a task's share
            of it in place of the pool. None for tasks that are drawn from the pool inside the step.
    """

    init: Callable[[Array], PyTree]
    draw: TaskDraw | tuple[TaskDraw, ...]
    update: Callable[[PyTree, Episode, dict[str, Array]], PyTree] | None = None
    feed: TaskFeed | None = None

    @property
    def draws(self) -> tuple[TaskDraw, ...]:
        """`draw` as a tuple, one function per size of episode."""
        return self.draw if isinstance(self.draw, tuple) else (self.draw,)
