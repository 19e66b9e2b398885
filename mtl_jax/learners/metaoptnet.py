"""MetaOptNet: a multi-class support vector machine that is solved inside every task, and differentiated there."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from mtl_jax.learners.checks import check_above, check_counts, checked, feature_network
from mtl_jax.learners.inner import linear
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, query_objective, task_ways
from mtl_jax.learners.ridge import Solved
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def dual_shares(gram: Array, y: Array, rate: Array, steps: int) -> Array:
    """The dual of Crammer and Singer's support vector machine, by accelerated projected gradient steps.

    argmin_G 1/2 tr (Y - G)' K (Y - G) + rate <G, Y>, each row of G in the simplex over the classes that Y has;
    with C = 1 / rate the machine is W = C X' (Y - G)

    The momentum starts anew whenever it points uphill. Derivatives are those of the solution, by the implicit function
    theorem on the entries of G that are above 0: no step is differentiated.

    Args:
        gram: [n, n] K, positive definite.
        y: [n, ways] one-hot labels Y.
        rate: [] above 0.
        steps: how many, a fixed number.

    Returns:
        G [n, ways], in exact feasibility.

    Reference: Crammer and Singer 2001, JMLR 2; O'Donoghue and Candes 2012, arXiv 1204.3982, for the restart.
    """
    highest = jax.lax.Precision.HIGHEST
    present, curvature = y.any(0), jnp.abs(gram).sum(1).max()  # at least the largest eigenvalue
    floor = jnp.finfo(gram.dtype).tiny

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        last, far, t = carry
        slope = rate * y - jnp.matmul(gram, y - far, precision=highest)
        new = _onto_simplex(far - slope / jnp.maximum(curvature, floor), present)
        t = jnp.where(((far - new) * (new - last)).sum() > 0, 1.0, t)
        after = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * t * t))
        return (new, new + (t - 1.0) / after * (new - last), after), None

    start = present.astype(y.dtype) / present.sum().astype(y.dtype) * jnp.ones_like(y)
    return jax.lax.scan(step, (start, start, jnp.ones((), y.dtype)), length=steps)[0][0]


def _forward(gram: Array, y: Array, rate: Array, steps: int) -> tuple[Array, tuple[Array, Array, Array]]:
    shares = dual_shares(gram, y, rate, steps)
    return shares, (gram, y, shares)


def _backward(steps: int, saved: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array, Array, Array]:
    gram, y, shares = saved
    free = (shares > 0).astype(y.dtype)
    count = free.sum(1, keepdims=True)

    def project(z: Array) -> Array:  # onto moves that keep zeros zero and rows' sums
        return free * (z - (free * z).sum(1, keepdims=True) / count)

    def curvature(z: Array) -> Array:
        inside = project(z)
        return project(jnp.matmul(gram, inside, precision=jax.lax.Precision.HIGHEST)) + z - inside

    z, _ = cg(curvature, project(cotangent), tol=1e-6, maxiter=min(y.size, 200))
    return z @ (y - shares).T, jnp.zeros_like(y), -(z * y).sum()


dual_shares.defvjp(_forward, _backward)


def _onto_simplex(v: Array, present: Array) -> Array:
    """The nearest point of the simplex to each row of v [n, ways], over the classes that are present [ways]."""
    v = jnp.where(present, v, v.min(1, keepdims=True) - 2.0)  # too low for a share
    down = -jnp.sort(-v, axis=1)
    rank = jnp.arange(1, v.shape[1] + 1, dtype=v.dtype)
    level = (jnp.cumsum(down, 1) - 1.0) / rank
    last = jnp.maximum((down > level).sum(1, keepdims=True), 1) - 1
    return jnp.maximum(v - jnp.take_along_axis(level, last, 1), 0.0)


@checks_arguments
def metaoptnet(
    net: Model,
    slack_cost: float = 0.1,
    init_scale: float = 1.0,
    solver_steps: int = 200,
    ways: int | None = None,
) -> Learner:
    """A linear support vector machine of all classes at once as the inner problem, with exact derivatives.

    W = argmin 1/2 ||W||^2 + slack_cost sum_i max_k (1 - [k = y_i] + (w_k - w_{y_i}) f_theta(x_i)) over the support set;
    logits of a query are scale W f_theta(x), scale learned with theta

    The dual has 1 added to the diagonal of its matrix of products, as the authors' code has, which makes its solution
    unique. MetaOptNet's other head, ridge regression, is `r2d2`.

    Args:
        net: a network without head, such as conv4(ways=None).
        slack_cost: what a violated margin costs, above 0; the authors' C.
        init_scale: where the scale of the logits starts, above 0.
        solver_steps: of the dual's solver.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is {"net", "log_scale": []}, phi is Solved(head, present, stats), whose head holds the scale.
        While tracing with `ways` unknown, predict gives a logit for each support example; those past the true ways
        never win.

    Raises:
        ValueError: a setting out of range.

    Reference: Lee, Maji, Ravichandran and Soatto 2019, arXiv 1904.03758.

    Note: the authors solve the dual by an interior-point method, three iterations of it in training.
    """
    check_above(slack_cost=slack_cost, init_scale=init_scale)
    check_counts(solver_steps=solver_steps, ways=ways)
    net = feature_network(net, "metaoptnet")

    def init(key: Array, x: Array) -> PyTree:
        return {"net": net.init(key, x), "log_scale": jnp.log(jnp.asarray(init_scale, x.dtype))}

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> Solved:
        z, stats = net.apply(theta["net"], support_x, None)
        y = jax.nn.one_hot(support_y, slots, dtype=z.dtype)
        gram = jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST) + jnp.eye(len(z), dtype=z.dtype)
        cost = jnp.asarray(as_dtype(slack_cost, z.dtype), z.dtype)
        dual = cost * (y - dual_shares(gram, y, 1.0 / cost, solver_steps))
        kernel = jnp.exp(theta["log_scale"]).astype(z.dtype) * (z.T @ dual)
        return Solved({"kernel": kernel, "bias": jnp.zeros_like(kernel[0])}, y.any(0), stats)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Solved:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: Solved, x: Array) -> Array:
        return never_absent(linear(phi.head, net.apply(theta["net"], x, phi.stats)[0]), phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, task_ways(episode, ways))
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(init, adapt, predict, loss), labels_only=True)
