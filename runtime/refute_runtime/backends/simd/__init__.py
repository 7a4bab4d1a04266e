"""Kernels of the `cpu` backend, compiled by Numba; imported only where it is installed.

`emit` writes vector instructions, `scalars` and `lanes` are the small operations made of them, `vnni` and
`portable` multiply rows of quantized blocks on the two kinds of processors, `products` and `layers` are the
kernels that the backend calls.
"""
