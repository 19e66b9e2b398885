"""The augmentations by name, apart from what they do: settings, which help answers from, import no JAX."""

AUGMENTATIONS = (
    "none",
    "rotations",
    "rotations_affine",
    "dihedral_affine",
    "dihedral_elastic",
    "flip_crop",
    "flip_crop_colours",
    "rotations_flip_crop",
)
VARIATIONS = ("flip_crop", "affine", "elastic")  # of one image: what copies of it differ by
