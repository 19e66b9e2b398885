"""What the papers print, in percent: by (method, data set, ways, shots), the figure and its interval if it has one.

The docstrings of the experiments name the papers.
"""

PAPERS = {
    ("protonet", "omniglot", 5, 1): (98.8, None), ("protonet", "omniglot", 5, 5): (99.7, None),
    ("protonet", "omniglot", 20, 1): (96.0, None), ("protonet", "omniglot", 20, 5): (98.9, None),
    ("maml", "omniglot", 5, 1): (98.7, 0.4), ("maml", "omniglot", 5, 5): (99.9, 0.1),
    ("maml", "omniglot", 20, 1): (95.8, 0.3), ("maml", "omniglot", 20, 5): (98.9, 0.2),
    ("fomaml", "omniglot", 5, 1): (98.3, 0.5), ("fomaml", "omniglot", 5, 5): (99.2, 0.2),
    ("fomaml", "omniglot", 20, 1): (89.4, 0.5), ("fomaml", "omniglot", 20, 5): (97.9, 0.1),
    ("reptile", "omniglot", 5, 1): (97.68, 0.04), ("reptile", "omniglot", 5, 5): (99.48, 0.06),
    ("reptile", "omniglot", 20, 1): (89.43, 0.14), ("reptile", "omniglot", 20, 5): (97.12, 0.32),
    ("matching", "omniglot", 5, 1): (98.1, None), ("matching", "omniglot", 5, 5): (98.9, None),
    ("matching", "omniglot", 20, 1): (93.8, None), ("matching", "omniglot", 20, 5): (98.5, None),
    ("anil", "omniglot", 20, 1): (96.2, 0.5), ("anil", "omniglot", 20, 5): (98.0, 0.3),
    ("meta-sgd", "omniglot", 5, 1): (99.53, 0.26), ("meta-sgd", "omniglot", 5, 5): (99.93, 0.09),
    ("mamlpp", "omniglot", 5, 1): (99.47, None), ("mamlpp", "omniglot", 5, 5): (99.93, None),
    ("mamlpp", "omniglot", 20, 1): (97.65, None), ("mamlpp", "omniglot", 20, 5): (99.33, None),
    ("relation", "omniglot", 5, 1): (99.6, 0.2), ("relation", "omniglot", 5, 5): (99.8, 0.1),
    ("imaml", "omniglot", 5, 1): (99.50, 0.26), ("imaml", "omniglot", 5, 5): (99.74, 0.11),
    ("protonet", "cifar_fs", 5, 1): (55.5, 0.7), ("protonet", "cifar_fs", 5, 5): (72.0, 0.6),
    ("r2d2", "cifar_fs", 5, 1): (60.0, 0.7), ("r2d2", "cifar_fs", 5, 5): (76.1, 0.6),
    ("maml", "cifar_fs", 5, 1): (58.9, 1.9), ("maml", "cifar_fs", 5, 5): (71.5, 1.0),
    ("mtl", "fc100", 5, 1): (43.6, 1.8), ("mtl", "fc100", 5, 5): (55.4, 0.9),
    ("mtl hard-tasks", "fc100", 5, 1): (45.1, 1.8),
    ("protonet", "fc100", 5, 1): (35.3, 0.6),
    ("maml", "mini_imagenet", 5, 1): (48.70, 1.84), ("maml", "mini_imagenet", 5, 5): (63.11, 0.92),
    ("protonet", "mini_imagenet", 5, 1): (49.42, 0.78), ("protonet", "mini_imagenet", 5, 5): (68.20, 0.66),
}  # fmt: skip
