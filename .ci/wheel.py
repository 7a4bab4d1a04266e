"""Build the wheel, check what is in it, and run the tests that use it whole, without the sources in reach."""

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = (
    "refute/py.typed",
    "refute/schemas/contract.schema.json",
    "refute/schemas/finding.schema.json",
    "refute/templates/example-v1.yaml",
    "refute/templates/pre-commit-config.yaml",
    "refute/templates/refute.yml",
    "refute/report/page/templates/base.html.j2",
    "refute/report/page/templates/claim.html.j2",
    "refute/report/page/templates/compare.html.j2",
    "refute/report/page/templates/page.css",
    "refute/report/page/templates/page.js",
    "refute/report/page/templates/pictures.html.j2",
    "refute/report/page/templates/report.html.j2",
    "refute/schemas/counterexample.schema.json",
    "refute/bundled_contracts/openai-chat-completions-v1.yaml",
    "refute/bundled_contracts/openai-latency-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-invariance-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-kv-cache-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-numerics-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-routing-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-long-context-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-memory-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-sampling-v1.yaml",
    "refute/bundled_contracts/tokenizer-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-repetition-penalty-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-sampling-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-serve-dispatch-v1.yaml",
    "refute/bundled_contracts/qwen3-moe-streaming-sse-v1.yaml",
    "refute_runtime/py.typed",
    "refute_runtime/pocket/pocket.gguf",
    "refute_runtime/pocket/pocket.tokens.json",
    "refute_runtime/pocket/reference.npz",
    "refute_runtime/pocket/CARD.md",
    *(
        f"refute_runtime/backends/kernels/{path.name}"
        for path in sorted((ROOT / "runtime/refute_runtime/backends/kernels").glob("*.cu*"))
    ),
)
FORBIDDEN = ("tests/", "evidence/", "refute_runtime/pocket/recipe/")
# What shows that nothing is missing in the wheel: commands, the plugin, the server, files that come with it.
# The rest of the tests ran against the same sources.
TESTS = (
    "tests/refute/test_cli.py",
    "tests/refute/test_init.py",
    "tests/refute/test_schema.py",
    "tests/refute/test_serve.py",
    "tests/refute/test_third_party.py",
    "tests/refute/plugin",
    "tests/refute/report/page",
    "tests/refute_runtime/test_pocket.py",
)
LARGEST = 12 * 2**20  # bytes: the embedded model is most of it


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="refute-wheel-") as name:
        scratch = Path(name)
        wheel = build(scratch)
        problems = faults(wheel)
        for problem in problems:
            print(f"{wheel.name}: {problem}", file=sys.stderr)
        if problems:
            return 1
        print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB, contents as expected")
        return run_tests(wheel, scratch)


def build(scratch: Path) -> Path:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", scratch / "dist", ROOT)
    (wheel,) = (scratch / "dist").glob("*.whl")
    run(Path(sys.executable).with_name("check-wheel-contents"), wheel, cwd=ROOT)
    return wheel


def faults(wheel: Path) -> list[str]:
    names = zipfile.ZipFile(wheel).namelist()
    missing = [f"{name} is missing" for name in REQUIRED if name not in names]
    strays = [f"{name} does not belong there" for name in names if name.startswith(FORBIDDEN)]
    size = wheel.stat().st_size
    large = [f"{size} bytes, expected at most {LARGEST}"] if size > LARGEST else []
    return missing + strays + large


def run_tests(wheel: Path, scratch: Path) -> int:
    """Run them where no source of ours is in reach."""
    python = scratch / "venv" / "bin" / "python"
    venv.create(scratch / "venv", with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[dev]")
    project = scratch / "project"
    for folder in ("tests", "contracts", "docs"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / file, project / file)
    where = "import refute, refute_runtime as r; print(refute.__file__, r.__path__)"
    found = subprocess.run(
        [python, "-c", where], cwd=project, check=True, capture_output=True, text=True
    ).stdout
    if str(scratch) not in found or str(ROOT) in found:
        print(f"the tests would not run against the wheel: {found}", file=sys.stderr)
        return 1
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "--numprocesses=auto",
        "--maxprocesses=4",
        "--timeout=300",
        *TESTS,
    ]
    return subprocess.run(command, cwd=project, check=False).returncode


def run(*command: object, cwd: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


if __name__ == "__main__":
    sys.exit(main())
