"""Copies at test: each task's images also as augmented ones, to adapt to and to predict by."""

import jax
import jax.numpy as jnp

from mtl_jax.data.augment import VARY_BY, check_images
from mtl_jax.data.augmentations import VARIATIONS
from mtl_jax.learners.checks import check_counts, checked
from mtl_jax.learners.objective import log_mean_probability, query_objective
from mtl_jax.types import Array, Episode, Learner, PyTree


def with_copies(learner: Learner, vary: str, support_copies: int = 4, query_copies: int = 0) -> Learner:
    """The same learner, which adds augmented copies of a task's images to them: more support, and queries seen again.

    S' = S and {(v_j(x_i), y_i)}, j = 1 .. M;  phi = adapt(theta, S');
    log p(y | x) = log 1/(1 + N) sum_j softmax(predict(theta, phi, v_j(x)))_y,  j = 0 .. N, v_0(x) = x

    With one image per class, copies stand in for some of the images that are missing; nothing is trained anew.

    Args:
        learner: any, whose inputs are images; what adapts to the larger support set.
        vary: what is done to a copy: "flip_crop", mirrored with probability 1/2 and cropped from a padding of 4 pixels;
            "affine", turned, stretched, sheared and moved a little (characters); "elastic", so and bent too. What
            training varied too suits best.
        support_copies: M, of each support image beside itself; 0 for none.
        query_copies: N, of each query beside itself; 0 for none. Each set of queries is predicted at once, so that norm
            "transductive" takes the moments of one copy of all of them.

    Returns:
        Learner; theta and phi are the learner's own. predict gives log-probabilities where there are copies of queries,
        the learner's own outputs else. Its loss is that of such a prediction.

    Raises:
        ValueError: a number below 0, 0 for both, or an unknown `vary`; (while tracing) inputs that are no images, or
            float targets.

    Reference: Tian, Wang, Krishnan, Tenenbaum and Isola 2020, arXiv 2003.11539, for the support set.

    Note: it is in the authors' code alone, with five copies of each support image in place of itself. The draws come
    from one fixed key, the same for every task, so that `adapt` stays a function of its arguments. Under norm "support"
    the moments are those of images and copies: an Omniglot network lost 0.6 points by 9 copies that gained 0.2 under
    norm "transductive" (experiments/with_copies.py).
    """
    check_counts(0, support_copies=support_copies, query_copies=query_copies)
    if vary not in VARIATIONS:
        raise ValueError(f"unknown vary {vary!r}: choose one of {', '.join(VARIATIONS)}")
    if support_copies + query_copies == 0:
        raise ValueError("0 copies of the support set and of the queries change nothing: give one of them, or neither")
    one = VARY_BY[vary]

    def several(seed: int, x: Array, number: int) -> Array:
        """x [n, ...] and copies of it, [1 + number, n, ...]."""
        check_images("copies", x)
        keys = jax.random.split(jax.random.key(seed), (number, len(x)))
        return jnp.concatenate((x[None], jax.vmap(jax.vmap(one), (0, None))(keys, x)))

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> PyTree:
        if support_copies:
            support_x = several(0, support_x, support_copies).reshape(-1, *support_x.shape[1:])
            support_y = jnp.tile(support_y, 1 + support_copies)
        return learner.adapt(theta, support_x, support_y)

    def predict(theta: PyTree, phi: PyTree, x: Array) -> Array:
        if not query_copies:
            return learner.predict(theta, phi, x)
        outputs = jax.lax.map(lambda x: learner.predict(theta, phi, x), several(1, x, query_copies))
        return log_mean_probability(outputs)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = adapt(theta, episode.support_x, episode.support_y)
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(learner.init, adapt, predict, loss), labels_only=True)
