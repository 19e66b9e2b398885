"""RFS: a good embedding is all you need: logistic regression on pre-trained features of length 1."""

from mtl_jax.learners.checks import check_counts, feature_network
from mtl_jax.learners.distillation import Teacher
from mtl_jax.learners.finetune import finetune
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Learner, Model


@checks_arguments
def rfs(
    net: Model,
    classes: int,
    inner_steps: int = 100,
    label_smoothing: float = 0.0,
    ways: int | None = None,
    teacher: Teacher | None = None,
) -> Learner:
    """Pre-train a network with all source classes, then solve a logistic regression of each task's support set.

    u(x) = f_theta(x) / ||f_theta(x)||;
    W, b = argmin sum_i -log softmax(W u(x_i) + b)[y_i] + 1/2 ||W||^2 over the support set

    `loss` is the pre-training, as in `finetune`, whose logistic head this is by itself, without a choice of another.

    Args:
        net: a network without head, such as conv4(ways=None).
        classes: source classes; `batch_classes(pool, augment)` says how many a pool has.
        inner_steps: accelerated gradient steps of the solver, at least 1; 100 end where scikit-learn does.
        label_smoothing: share of each pre-training target that is spread evenly over all classes, in [0, 1).
        ways: classes of a task; counted from the support labels unless given.
        teacher: `distillation.Teacher`, the first network of the paper's self-distillation: its outputs for the same
            classes are learned too, by a second network of any kind.

    Returns:
        Learner; theta is {"net", "classes": {kernel [d, classes], bias [classes]}}, phi is finetune's
        Fitted(head, present, stats).

    Raises:
        ValueError: a setting out of range, or as `finetune`.

    Reference: Tian, Wang, Krishnan, Tenenbaum and Isola 2020, arXiv 2003.11539.

    Note: a teacher's share of 1/2 and its temperature of 4 are the authors'; here it normalises each batch by the
    batch's own moments, as in its training, and theirs by running ones. The augmented copies of the support set that
    the authors' code takes at test are `learners.copies.with_copies`.
    """
    check_counts(inner_steps=inner_steps)
    net = feature_network(net, "rfs")
    return finetune(
        net, classes, 1.0, inner_steps, head="logistic", label_smoothing=label_smoothing, ways=ways, teacher=teacher
    )
