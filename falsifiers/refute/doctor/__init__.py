"""`refute doctor`: what stands in the way of a run, looked for before it begins, each with its fix."""
