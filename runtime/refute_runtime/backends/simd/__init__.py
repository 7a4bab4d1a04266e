"""Kernels of the backend `cpu`, compiled by Numba on the machine that runs them."""
