"""The data sets and formats that can be loaded, one file each; `mtl_jax.data.datasets` has the table of them."""
