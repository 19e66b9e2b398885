"""Transfer learning: pre-train on all source classes, then fit a new head to the support set."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_above, check_counts, check_share, checked, feature_network, seen_labels
from mtl_jax.learners.distillation import Teacher, check_teacher, learn_from
from mtl_jax.learners.inner import check_inner, inner_loop, linear
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, objective
from mtl_jax.learners.protonet import class_means, cosine, unit
from mtl_jax.learners.softmax_regression import softmax_regression
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


class Fitted(NamedTuple):
    """One task's solution: head {kernel [d, ways], and a linear one's bias [ways]}, which classes exist, moments."""

    head: PyTree
    present: Array
    stats: Any


@checks_arguments
def finetune(
    net: Model,
    classes: int,
    inner_lr: float = 0.01,
    inner_steps: int = 100,
    inner_optimizer: optax.GradientTransformation | None = None,
    head: Literal["linear", "logistic", "centroid"] = "linear",
    label_smoothing: float = 0.0,
    ways: int | None = None,
    teacher: Teacher | None = None,
) -> Learner:
    """Pre-train a network with all source classes, freeze it, and give each task a new head (Baseline).

    L(theta) = -sum_i log softmax(W f_theta(x_i) + b)[c_i] over the query images and their classes c_i in the source;
    phi_{k+1} = phi_k - u(grad L_support(phi_k)) over the features of the support set, phi_0 = 0

    `loss` is the pre-training: on `sample_batch`'s batches it is ordinary training with all classes, and on an episode
    the query images count as examples of `episode.classes`. `adapt` and `predict` solve few-shot tasks.

    Args:
        net: a network without head, such as conv4(ways=None).
        classes: source classes; `batch_classes(pool, augment)` says how many a pool has.
        inner_lr: rate of the linear head's SGD, of momentum 0.9, on the mean loss of the whole support set.
        inner_steps: its steps, or those of the logistic head's solver.
        inner_optimizer: any optax transformation in place of the linear head's SGD.
        head: "linear", by descent from zeros; "logistic", `softmax_regression` of features of length 1; or "centroid",
            cosine similarity to the mean features of each class, without steps. The default is what published figures
            were made with; its rate suits features of length 1 and up, and hardly moves on smaller ones. "logistic"
            sees no scale and ends where scikit-learn does.
        label_smoothing: share of each pre-training target that is spread evenly over all classes, in [0, 1).
        ways: classes of a task; counted from the support labels unless given.
        teacher: `distillation.Teacher`, a trained network whose outputs for the same classes the pre-training learns
            too (distillation).

    Returns:
        Learner; theta is {"net", "classes": {kernel [d, classes], bias [classes]}}, phi is Fitted(head, present,
        stats). No gradient passes through adapt to theta. While tracing with `ways` unknown, predict gives a logit
        for each support example; those past the true ways never win.

    Raises:
        ValueError: a setting out of range, or (in loss) labels that are floats, or of more classes than there are, or
            a teacher of others.

    Reference: Chen, Liu, Kira, Wang and Huang 2019, arXiv 1904.04232; the teacher: Tian et al. 2020, arXiv 2003.11539.

    Note: the authors' code takes 100 epochs in batches of 4 with momentum and dampening of 0.9 each and a weight decay
    of 1e-3; here each step sees the whole support set, without either. Their features are of frozen running moments.
    After short pre-training neither head is better everywhere (paired, 200 episodes of 5 ways): logistic - linear is
    +0.8 and +1.5 points on CIFAR-FS at 1 and 5 shots, -0.5 and -0.8 on Omniglot.
    """
    if inner_optimizer is not None and head != "linear":
        raise ValueError(f"the {head} head takes no inner_optimizer: leave it out, or take head='linear'")
    return _transfer(net, classes, inner_lr, inner_steps, inner_optimizer, head, None, label_smoothing, ways, teacher)


@checks_arguments
def baseline_pp(
    net: Model,
    classes: int,
    inner_lr: float = 0.01,
    inner_steps: int = 100,
    inner_optimizer: optax.GradientTransformation | None = None,
    scale: float | None = None,
    label_smoothing: float = 0.0,
    ways: int | None = None,
) -> Learner:
    """`finetune` with cosine similarities in place of both linear heads (Baseline++).

    logits_k = scale cos(w_k, f_theta(x)); a task's w_k start as the mean features of the support of class k

    Args:
        net, classes, inner_lr, inner_steps, inner_optimizer, label_smoothing, ways: as in `finetune`.
        scale: what cosines are multiplied by, above 0; 2 for a head of up to 200 classes and 10 for more, unless given.

    Returns:
        Learner; theta is {"net", "classes": {kernel [d, classes]}}, phi is Fitted(head, present, stats).

    Raises:
        ValueError: as `finetune`.

    Reference: Chen, Liu, Kira, Wang and Huang 2019, arXiv 1904.04232.

    Note: the authors' code also learns a factor for each class (a weight normalisation's gain), starts a task's head
    at random, and differs in the steps as `finetune` says.
    """
    if scale is not None:
        check_above(scale=scale)
    return _transfer(net, classes, inner_lr, inner_steps, inner_optimizer, "cosine", scale, label_smoothing, ways)


def _transfer(
    net: Model,
    classes: int,
    inner_lr: float,
    inner_steps: int,
    inner_optimizer: optax.GradientTransformation | None,
    head: str,
    scale: float | Array | None,
    label_smoothing: float | Array,
    ways: int | None,
    teacher: Teacher | None = None,
) -> Learner:
    """Both methods; a "cosine" head is so in pre-training as well, a "centroid" one in tasks alone."""
    check_counts(classes=classes, ways=ways)
    check_inner(inner_steps)
    if inner_optimizer is None:
        check_above(inner_lr=inner_lr)
    check_share(")", label_smoothing=label_smoothing)
    if teacher is not None:
        check_teacher(teacher)
    net = feature_network(net, "baseline_pp" if head == "cosine" else "finetune")
    rule = inner_optimizer or optax.sgd(inner_lr, momentum=0.9)
    source_scale = (2.0 if classes <= 200 else 10.0) if scale is None else scale
    task_scale = 2.0 if scale is None else scale  # a task's classes are few

    def cosines(head: PyTree, features: Array, scale: float | Array) -> Array:
        return as_dtype(scale, features.dtype) * (1.0 - cosine(features, head["kernel"].T))

    def source_logits(theta: PyTree, features: Array) -> Array:
        return (
            cosines(theta["classes"], features, source_scale)
            if head == "cosine"
            else linear(theta["classes"], features)
        )

    def task_logits(phi: PyTree, features: Array, present: Array) -> Array:
        if head == "logistic":
            return never_absent(linear(phi, unit(features)), present)
        return never_absent(linear(phi, features) if head == "linear" else cosines(phi, features, task_scale), present)

    def init(key: Array, x: Array) -> PyTree:
        net_key, head_key = jax.random.split(key)
        params = net.init(net_key, x)
        features = jax.eval_shape(lambda p: net.apply(p, x, None)[0], params)
        kernel = jax.random.normal(head_key, (features.shape[-1], classes), features.dtype) * 0.01
        bias = {} if head == "cosine" else {"bias": jnp.zeros(classes, features.dtype)}
        return {"net": params, "classes": {"kernel": kernel, **bias}}

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Fitted:
        features, stats = jax.lax.stop_gradient(net.apply(theta["net"], support_x, None))
        means, present = class_means(features, support_y, count_ways(support_y, ways))
        start = {"kernel": means.T}
        if head == "linear":
            start = {"kernel": jnp.zeros_like(means.T), "bias": jnp.zeros_like(means[:, 0])}
        if head == "centroid":
            return Fitted(start, present, stats)
        if head == "logistic":
            one_hot = jax.nn.one_hot(support_y, len(present), dtype=features.dtype)
            kernel, bias = softmax_regression(unit(features), one_hot, inner_steps)
            return Fitted({"kernel": kernel, "bias": bias}, present, stats)

        def support_loss(phi: PyTree) -> Array:
            return objective(task_logits(phi, features, present), support_y)[0]

        return Fitted(inner_loop(support_loss, start, rule, inner_steps, order=1)[0], present, stats)

    def predict(theta: PyTree, phi: Fitted, x: Array) -> Array:
        return task_logits(phi.head, net.apply(theta["net"], x, phi.stats)[0], phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        labels = _source_labels(episode, classes)
        logits = source_logits(theta, net.apply(theta["net"], episode.query_x, None)[0])
        value, metrics = objective(logits, labels)
        if isinstance(label_smoothing, jax.Array) or label_smoothing > 0:
            share = as_dtype(label_smoothing, logits.dtype)
            value = (1.0 - share) * value - share * jax.nn.log_softmax(logits).mean()
        if teacher is not None:
            value = learn_from(teacher, value, logits, episode.query_x)
        return value, metrics

    return checked(Learner(init, adapt, predict, loss), labels_only=True, of_source=True)


def _source_labels(episode: Episode, classes: int) -> Array:
    """The source class of each query image [n]; ValueError where one is seen to be past the head's."""
    y = episode.query_y
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"pre-training is classification: query_y must be integer labels, not {y.dtype} {y.shape}")
    ways = 0 if episode.classes is None else episode.classes.shape[-1]
    labels = y if episode.classes is None else episode.classes[y]
    if (seen := seen_labels(y)) is not None and seen.min() < 0:
        raise ValueError(f"label {seen.min()} is no class: labels count from 0")
    seen = seen_labels(labels)
    largest = -1 if seen is None else int(seen.max())
    if ways > classes or largest >= classes:
        found = f"label {largest}" if largest >= classes else f"an episode of {ways} ways"
        raise ValueError(f"{found} does not fit a head of {classes} classes: build the learner with more")
    return labels
