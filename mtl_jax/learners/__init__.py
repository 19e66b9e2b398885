"""Meta-learning methods: settings in, a Learner of pure functions out."""

from mtl_jax.learners.anil import anil
from mtl_jax.learners.boil import boil
from mtl_jax.learners.cavia import cavia
from mtl_jax.learners.finetune import baseline_pp, finetune
from mtl_jax.learners.imaml import imaml
from mtl_jax.learners.lstm import lstm
from mtl_jax.learners.maml import fomaml, maml
from mtl_jax.learners.mamlpp import mamlpp
from mtl_jax.learners.matching import matching
from mtl_jax.learners.meta_sgd import meta_sgd
from mtl_jax.learners.mtl import mtl
from mtl_jax.learners.proto_maml import proto_maml
from mtl_jax.learners.protonet import protonet
from mtl_jax.learners.relation import relation
from mtl_jax.learners.reptile import reptile
from mtl_jax.learners.ridge import r2d2

__all__ = [
    "anil",
    "baseline_pp",
    "boil",
    "cavia",
    "finetune",
    "fomaml",
    "imaml",
    "lstm",
    "maml",
    "mamlpp",
    "matching",
    "meta_sgd",
    "mtl",
    "proto_maml",
    "protonet",
    "r2d2",
    "relation",
    "reptile",
]
