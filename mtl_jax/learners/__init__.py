"""Meta-learning methods: settings in, a Learner of pure functions out."""

from mtl_jax.learners.anil import anil
from mtl_jax.learners.bdcspn import bdcspn
from mtl_jax.learners.boil import boil
from mtl_jax.learners.cavia import cavia
from mtl_jax.learners.feat import feat
from mtl_jax.learners.finetune import baseline_pp, finetune
from mtl_jax.learners.imaml import imaml
from mtl_jax.learners.lstm import lstm
from mtl_jax.learners.maml import fomaml, maml
from mtl_jax.learners.mamlpp import mamlpp
from mtl_jax.learners.matching import matching
from mtl_jax.learners.meta_baseline import meta_baseline
from mtl_jax.learners.meta_sgd import meta_sgd
from mtl_jax.learners.metaoptnet import metaoptnet
from mtl_jax.learners.mtl import mtl
from mtl_jax.learners.pmf import pmf
from mtl_jax.learners.proto_maml import proto_maml
from mtl_jax.learners.protonet import protonet
from mtl_jax.learners.relation import relation
from mtl_jax.learners.reptile import reptile
from mtl_jax.learners.rfs import rfs
from mtl_jax.learners.ridge import r2d2
from mtl_jax.learners.simple_cnaps import simple_cnaps
from mtl_jax.learners.simpleshot import simpleshot
from mtl_jax.learners.tim import tim
from mtl_jax.learners.tsa import tsa

__all__ = [
    "anil",
    "baseline_pp",
    "bdcspn",
    "boil",
    "cavia",
    "feat",
    "finetune",
    "fomaml",
    "imaml",
    "lstm",
    "maml",
    "mamlpp",
    "matching",
    "meta_baseline",
    "meta_sgd",
    "metaoptnet",
    "mtl",
    "pmf",
    "proto_maml",
    "protonet",
    "r2d2",
    "relation",
    "reptile",
    "rfs",
    "simple_cnaps",
    "simpleshot",
    "tim",
    "tsa",
]
