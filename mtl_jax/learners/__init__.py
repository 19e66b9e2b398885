"""Meta-learning methods: settings in, a Learner of pure functions out."""

from mtl_jax.learners.maml import maml
from mtl_jax.learners.protonet import protonet

__all__ = ["maml", "protonet"]
