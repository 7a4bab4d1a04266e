"""What the `cuda` backend is made of and needs no GPU; `device.py` is the seam."""
