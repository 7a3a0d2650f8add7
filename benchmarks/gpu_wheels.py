"""Downloads wheels for a GPU machine without a network: python benchmarks/gpu_wheels.py DIR.

These are the packages that `benchmarks/gpu.sh` needs for its harvest, and their requirements, in
the versions installed here, for Python 3.12 on Linux x86-64, except those that such a machine has.
Run it in the project's own environment.
"""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NEEDED = ("dask", "distributed", "filelock", "fsspec", "google-crc32c", "jaxtyping", "ml-dtypes",
          "numcodecs", "psutil", "pydantic", "rich", "safetensors", "tokenizers", "transformers",
          "typer", "zarr")  # fmt: skip
THERE = {"llvmlite", "numba", "numpy", "torch", "triton"}
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34)] + [
    "manylinux1_x86_64",
    "manylinux2010_x86_64",
    "manylinux2014_x86_64",
]
MIB = 64


def closure(names: tuple[str, ...]) -> dict[str, str]:
    """Name → version of some packages and of all they require."""
    there = {str(key): str(value) for key, value in default_environment().items()}
    environment = there | {
        "python_version": "3.12",
        "python_full_version": "3.12.3",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "extra": "",
    }
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found or name in THERE:
            continue
        found[name] = importlib.metadata.version(name)
        for line in importlib.metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                waiting.append(requirement.name)
    return found


def main() -> None:
    """Downloads the wheels and prints their sizes."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}=={version}" for name, version in sorted(closure(NEEDED).items())]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    command += [str(folder), "--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
    command += [f"--platform={name}" for name in PLATFORMS] + wanted
    subprocess.run(command, check=True)
    weight = sum(path.stat().st_size for path in folder.glob("*.whl")) / 2**20
    print(f"{len(wanted)} wheels, {weight:.1f} MiB, in {folder}")
    if weight > MIB:
        sys.exit(f"error: the wheels must weigh {MIB} MiB at most, got {weight:.1f}")


if __name__ == "__main__":
    main()
