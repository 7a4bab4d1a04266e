"""The backend `cpu`: Numba, the processor's instructions, the library of threads, where kernels are kept."""

from collections.abc import Iterator

from refute.doctor.base import Check
from refute.report.words import shown


def look_at_kernels() -> Iterator[Check]:
    """What the kernels run on, and what would make them faster."""
    from refute_runtime.backends.simd import build  # noqa: PLC0415 (start-up time)

    try:
        import numba  # noqa: PLC0415 (an extra)
    except ImportError as error:
        found = f"cannot be imported ({error}): models are computed on the backend array, many times slower"
        yield Check("numba", "warn", found, "pip install 'refute[cpu]'")
        return
    yield Check("numba", "ok", numba.__version__)
    processor = build.processor()
    lacks = {"vnni": "", "avx2": "AVX512-VNNI", "portable": "AVX2"}[processor.path]
    without = lacks and f", as {lacks} is missing, with which they are faster"
    yield Check("instructions", "ok", f"{processor.name}: kernels {processor.path}{without}")
    layer, slow = build.threading_layer(), build.slow_layer()
    if slow is None:
        yield Check("threads", "ok", f"up to {build.most_threads()}, by {layer}")
    else:
        fix = "install libgomp: apt install libgomp1, dnf install libgomp"
        yield Check("threads", "warn", slow.partition(":")[0], fix)
    kept = build.folder()
    if kept.why is None:
        yield Check("kernels", "ok", f"compiled once, kept in {shown(kept.path)}")
    else:
        yield Check(
            "kernels", "warn", kept.why, "make it writable, or set XDG_CACHE_HOME to a folder that is"
        )
