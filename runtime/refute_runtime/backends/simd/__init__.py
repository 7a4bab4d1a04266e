"""Kernels of the `cpu` backend, compiled by Numba; imported only where it is installed.

`emit` writes vector instructions, and `instructions` those of some processors; `scalars` and `lanes` are the
small operations made of them; `rows` multiplies rows of quantized blocks, by `vnni` or `narrow` as the
processor is; `products` and `layers` are the kernels that the backend calls.
"""
