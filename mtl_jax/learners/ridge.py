"""R2-D2: a head that is solved in closed form inside every task."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_counts, checked, feature_network, is_labels
from mtl_jax.learners.inner import linear
from mtl_jax.learners.objective import count_ways, never_absent, query_objective, task_ways
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree

Form = Literal["auto", "primal", "woodbury"]


class Solved(NamedTuple):
    """One task's solution: head {kernel [d, ways], bias [ways]}, which classes exist [ways], and moments."""

    head: PyTree
    present: Array
    stats: Any


def ridge(x: Array, y: Array, weight: Array, form: Form = "auto") -> Array:
    """Ridge regression in closed form, by a system of the smaller of examples and features.

    w = argmin ||x w - y||^2 + weight ||w||^2 = (x' x + weight I)^-1 x' y = x' (x x' + weight I)^-1 y

    x' x + weight I = R' R by the QR decomposition of x above sqrt(weight) I, and likewise for the other form: x' x
    itself would square the condition number, and of features near 1e4 leave no digit that tells examples apart.

    Args:
        x: [n, d] features.
        y: [n, out] targets.
        weight: [] what the squared weights cost, above 0.
        form: "primal" (a system of d equations), "woodbury" (of n), or "auto" for the smaller.

    Returns:
        w [d, out].

    Reference: Woodbury 1950; Bertinetto et al. 2019, arXiv 1805.08136, equations 5 and 6.
    """
    n, d = x.shape
    if form == "woodbury" or (form == "auto" and n < d):
        q, r = jnp.linalg.qr(jnp.concatenate((x.T, jnp.sqrt(weight) * jnp.eye(n, dtype=x.dtype))))
        return q[:d] @ jax.scipy.linalg.solve_triangular(r, y, trans=1)
    q, r = jnp.linalg.qr(jnp.concatenate((x, jnp.sqrt(weight) * jnp.eye(d, dtype=x.dtype))))
    return jax.scipy.linalg.solve_triangular(r, q[:n].T @ y)


def logistic(x: Array, y: Array, weight: Array, steps: int, form: Form = "auto") -> Array:
    """Logistic regression of each column of y by itself, by Newton steps from 0, each a ridge regression.

    w_k <- argmin_w sum_i s_i (x_i w - z_i)^2 + weight ||w||^2 with p = sigmoid(x w_k), s = p (1 - p) and
    z = x w_k + (y_k - p) / s; it ends at the minimum of sum_i -log p(y_ik | x_i) + weight / 2 ||w_k||^2

    Args:
        x: [n, d] features.
        y: [n, out] targets, 0 or 1.
        weight: [] what half the squared weights cost, above 0.
        steps: Newton steps.
        form: as in `ridge`.

    Returns:
        w [d, out].

    Reference: Bertinetto et al. 2019, arXiv 1805.08136, section 3.3.
    """

    def column(y: Array) -> Array:
        def step(w: Array, _: None) -> tuple[Array, None]:
            eta = x @ w
            p = jax.nn.sigmoid(eta)
            root = jnp.sqrt(jnp.maximum(p * (1.0 - p), 1e-6))  # a sure example would divide by 0
            return ridge(root[:, None] * x, (root * eta + (y - p) / root)[:, None], weight, form)[:, 0], None

        return jax.lax.scan(step, jnp.zeros_like(x[0]), length=steps)[0]

    return jax.vmap(column, 1, 1)(y)


@checks_arguments
def r2d2(
    net: Model,
    head: Literal["ridge", "logistic"] = "ridge",
    newton_steps: int = 5,
    init_lambda: float = 1.0,
    init_scale: float = 10.0,
    form: Form = "auto",
    ways: int | None = None,
) -> Learner:
    """Differentiable closed-form solvers: a ridge (R2-D2) or logistic (LR-D2) regression as the inner problem.

    W = argmin ||[f_theta(x), 1] W - Y||^2 + lambda ||W||^2 over the support set, Y one-hot;
    logits of a query are scale [f_theta(x), 1] W + offset; lambda, scale and offset are learned with theta.

    Float targets are regressed as they are: lambda is learned, scale and offset are left out.

    Args:
        net: a network without head, such as conv4(ways=None).
        head: "ridge"; or "logistic", one class against all others by Newton steps, for labels alone.
        newton_steps: of the logistic head.
        init_lambda, init_scale: where lambda and scale start, above 0.
        form: "primal", "woodbury", or "auto" for the smaller system.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is {"net", "ridge": {log_lambda, log_scale, offset}}, phi is Solved(head, present, stats), whose
        head holds scale and offset. While tracing with `ways` unknown, predict gives a logit for each support
        example; those past the true ways never win.

    Raises:
        ValueError: an unknown head or form, a setting out of range, or float targets for a logistic head.

    Reference: Bertinetto, Henriques, Torr and Vedaldi 2019, arXiv 1805.08136.

    Note: as in the authors' code, a column of ones is the bias, regularised like the rest. Their code divides features
    and targets by sqrt(n), so that its lambda counts per support example; it keeps lambda at 50 unless told to learn
    it, and has no scale on logistic logits. The offset, one number for all classes, moves no softmax.
    """
    check_counts(newton_steps=newton_steps, ways=ways)
    check_above(init_lambda=init_lambda, init_scale=init_scale)
    net = feature_network(net, "r2d2")

    def init(key: Array, x: Array) -> PyTree:
        start = {"log_lambda": jnp.log(init_lambda), "log_scale": jnp.log(init_scale), "offset": 0.0}
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32  # tokens are whole numbers
        return {"net": net.init(key, x), "ridge": {k: jnp.asarray(v, dtype) for k, v in start.items()}}

    def solve(theta: PyTree, support_x: Array, support_y: Array, known: int | None) -> Solved:
        features, stats = net.apply(theta["net"], support_x, None)
        x = jnp.pad(features, ((0, 0), (0, 1)), constant_values=1.0)
        weight, scale = jnp.exp(theta["ridge"]["log_lambda"]), jnp.exp(theta["ridge"]["log_scale"])
        if not is_labels(support_y):
            if head == "logistic" or support_y.ndim != 2:
                raise ValueError(
                    f"the {head} head wants labels [n], or for ridge targets [n, d], not {support_y.shape}"
                )
            w = ridge(x, support_y, weight, form)
            return Solved({"kernel": w[:-1], "bias": w[-1]}, jnp.ones(w.shape[1], bool), stats)
        y = jax.nn.one_hot(support_y, count_ways(support_y, known), dtype=x.dtype)
        w = ridge(x, y, weight, form) if head == "ridge" else logistic(x, y, weight, newton_steps, form)
        kernel, bias = scale * w[:-1], scale * w[-1] + theta["ridge"]["offset"]
        return Solved({"kernel": kernel, "bias": bias}, y.any(0), stats)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Solved:
        return solve(theta, support_x, support_y, ways)

    def predict(theta: PyTree, phi: Solved, x: Array) -> Array:
        features, _ = net.apply(theta["net"], x, phi.stats)
        return never_absent(linear(phi.head, features), phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        known = task_ways(episode, ways) if is_labels(episode.support_y) else None
        phi = solve(theta, episode.support_x, episode.support_y, known)
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(init, adapt, predict, loss))
