"""TSA: small adapters beside a frozen network's convolutions, fitted to each task's support set."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_above, checked, feature_network
from mtl_jax.learners.finetune import finetune
from mtl_jax.learners.inner import check_inner, inner_loop
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, objective
from mtl_jax.learners.parts import adapter_of, beside, change_parts, parts_of
from mtl_jax.learners.protonet import class_means, cosine
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


class TaskAdapted(NamedTuple):
    """One task's solution: the network with its adapters, the map [d, d] of its features, class means [ways, d], which
    classes exist [ways], and moments."""

    params: PyTree
    map: Array
    centres: Array
    present: Array
    stats: Any


@checks_arguments
def tsa(
    net: Model,
    classes: int,
    inner_lr: float = 0.1,
    inner_steps: int = 40,
    inner_optimizer: optax.GradientTransformation | None = None,
    temperature: float = 10.0,
    label_smoothing: float = 0.0,
    ways: int | None = None,
) -> Learner:
    """Pre-train a network with all source classes, freeze it, and fit adapters of each task's own.

    y = conv(x, W) + x A at every convolution, and z = (I + B) f(x) after the last layer; A = B = 0 at the start;
    (A, B) <- (A, B) - u(grad L_support), L = -log softmax_k(temperature cos(z, c_k))[y] with c_k the mean of z over
    the support of class k, which moves with A and B

    Of a network without convolutions only the map B adapts. `loss` is the pre-training, as in `finetune`.

    Args:
        net: a network without head, such as conv4(ways=None).
        classes: source classes; `batch_classes(pool, augment)` says how many a pool has.
        inner_lr: rate of Adadelta.
        inner_steps: its steps on the whole support set.
        inner_optimizer: any optax transformation in place of Adadelta.
        temperature: what cosines are multiplied by, above 0.
        label_smoothing: share of each pre-training target that is spread evenly over all classes, in [0, 1).
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is finetune's {"net", "classes"}, phi is TaskAdapted(params, map, centres, present, stats). No
        gradient passes through adapt to theta.

    Raises:
        ValueError: a setting out of range, or as `finetune`.

    Reference: Li, Liu and Bilen 2022, arXiv 2107.00358.

    Note: the paper's matrix adapters, in residual form; the authors' rates differ by data set and by part (0.5 or 0.05
    for A, twice that for B and 40 steps). At one shot every support image is its own class's mean, so that little
    is learned from the support set alone.
    """
    check_inner(inner_steps)
    check_above(temperature=temperature)
    if inner_optimizer is None:
        check_above(inner_lr=inner_lr)
    net = feature_network(net, "tsa")
    source = finetune(net, classes, label_smoothing=label_smoothing, ways=ways)
    rule = inner_optimizer or optax.adadelta(inner_lr)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> TaskAdapted:
        body, slots = jax.lax.stop_gradient(theta["net"]), count_ways(support_y, ways)

        def adapted(parts: PyTree) -> tuple[PyTree, Array, Array, Array, Any]:
            params = change_parts(body, parts["beside"], beside)
            z, stats = net.apply(params, support_x, None)
            z = z + z @ parts["map"]
            return params, z, *class_means(z, support_y, slots), stats

        def support_loss(parts: PyTree) -> Array:
            _, z, centres, present, _ = adapted(parts)
            return objective(logits(z, centres, present), support_y)[0]

        shape = jax.eval_shape(lambda p: net.apply(p, support_x, None)[0], body)
        d = shape.shape[1]
        start = {"beside": parts_of(body, adapter_of) or {}, "map": jnp.zeros((d, d), shape.dtype)}
        parts, _ = inner_loop(support_loss, start, rule, inner_steps, order=1)
        params, _, centres, present, stats = adapted(parts)
        return TaskAdapted(params, parts["map"], centres, present, stats)

    def logits(z: Array, centres: Array, present: Array) -> Array:
        return never_absent(as_dtype(temperature, z.dtype) * (1.0 - cosine(z, centres)), present)

    def predict(theta: PyTree, phi: TaskAdapted, x: Array) -> Array:
        z, _ = net.apply(phi.params, x, phi.stats)
        return logits(z + z @ phi.map, phi.centres, phi.present)

    return checked(Learner(source.init, adapt, predict, source.loss), labels_only=True, of_source=True)
