#!/usr/bin/env bash
# The Triton kernels and the harvest on a machine that has a GPU and little else.
#
#   benchmarks/gpu.sh OUT            correctness, the race by repetition, ranks on one card, step
#                                    times, harvest: CSV files and a table in OUT; ends inside ten
#                                    minutes; exit code 1 if a kernel is wrong
#   benchmarks/gpu.sh OUT --only ranks                a part of it
#   benchmarks/gpu.sh OUT --toy      the same at toy sizes on a CPU, by Triton's interpreter
#   benchmarks/gpu.sh --gather DIR   where the package index is reachable: the wheels that such a
#                                    machine lacks (Linux x86-64, Python 3.12; 64 MiB at most)
#
# Needs Python 3.12, torch 2.11, Triton 3.6, numpy and numba, and no network. Wheels in `wheels/`
# beside this file, or in $WHEELS, are unpacked into a temporary folder; without them the parts that
# need them are skipped and say so. $PYTHON names another interpreter; $COMMIT names the commit where
# the history did not travel along.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

if [ "${1:-}" = --gather ]; then
    exec "$python" "$here/gpu_wheels.py" "${2:?--gather needs a folder}"
fi
[ $# -ge 1 ] || { sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 2; }

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
# This checkout, whatever its folder is called and whatever else is installed.
ln -s "$(dirname "$here")" "$site/scopeworks"
wheels=${WHEELS:-$here/wheels}
if compgen -G "$wheels/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --disable-pip-version-check --root-user-action=ignore --target "$site" "$wheels"/*.whl
fi
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"$python" "$here/gpu.py" "$@"
