"""The engine behind an OpenAI-compatible server: jobs go in, steps come out, clients are served over HTTP."""
