"""An ensemble: several networks of one learner, each adapted by itself, whose predictions are averaged."""

from typing import NamedTuple

import jax

from mtl_jax.learners.checks import check_counts, checked, is_labels
from mtl_jax.learners.objective import log_mean_probability, query_objective
from mtl_jax.types import Array, Episode, Learner, PyTree


class Voters(NamedTuple):
    """The members' solutions of a task with classes, stacked [members, ...]."""

    members: PyTree


class Estimators(NamedTuple):
    """The members' solutions of a regression, stacked [members, ...]."""

    members: PyTree


def ensemble(learner: Learner, members: int = 5) -> Learner:
    """Several networks of one learner that predict together.

    phi_m = adapt(theta_m, support),  log p(y | x) = log 1/M sum_m softmax(predict(theta_m, phi_m, x))_y

    and for a regression the mean of the members' outputs.

    Args:
        learner: any; what each member adapts and predicts by.
        members: how many networks `init` starts; `adapt` and `predict` take as many as theta has.

    Returns:
        Learner; theta is the learner's own with a leading axis [members] (`run.checkpoint.load_best` reads a run's
        best checkpoints so); phi is Voters(members) or, of float targets, Estimators(members). predict gives
        log-probabilities. Its loss is that of the common prediction.

    Raises:
        ValueError: members below 1.

    Reference: Antoniou, Edwards and Storkey 2019, arXiv 1810.09502, of MAML++'s five best checkpoints by validation.
    """
    check_counts(members=members)

    def init(key: Array, x: Array) -> PyTree:
        return jax.vmap(lambda key: learner.init(key, x))(jax.random.split(key, members))

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Voters | Estimators:
        solved = jax.vmap(lambda theta: learner.adapt(theta, support_x, support_y))(theta)
        return Voters(solved) if is_labels(support_y) else Estimators(solved)

    def predict(theta: PyTree, phi: Voters | Estimators, x: Array) -> Array:
        outputs = jax.vmap(learner.predict, (0, 0, None))(theta, phi.members, x)  # [members, n, ways]
        if isinstance(phi, Estimators):
            return outputs.mean(0)
        return log_mean_probability(outputs)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = adapt(theta, episode.support_x, episode.support_y)
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(init, adapt, predict, loss))
