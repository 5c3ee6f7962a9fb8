#!/usr/bin/env bash
# Check mig_jax on an accelerator (NVIDIA or AMD GPU, TPU) and print one table. See tools/on_gpu.py for the parts.
#
#     tools/on_gpu.sh                        installs what is missing, then runs all parts: about ten minutes on an H100
#     tools/on_gpu.sh --offline              installs nothing
#     tools/on_gpu.sh --out=DIR --parts attention mig grpo
#     PYTHON=python3.12 JAX_EXTRA=cuda12 tools/on_gpu.sh
#
# The exit status is 1 if a part failed.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

offline=0
arguments=()
for argument in "$@"; do
  if [ "$argument" = --offline ]; then offline=1; else arguments+=("$argument"); fi
done

has_all() {  # the package with its configs, the test runner, and a jax that sees the accelerator
  "$PYTHON" - <<'END'
import pytest, xdist
import jax
import mig_jax.configs, mig_jax.trainer.train
raise SystemExit(jax.default_backend() == "cpu")
END
}

choose_extra() {  # of jax, for this machine's driver
  if ! command -v nvidia-smi > /dev/null; then echo tpu; return; fi
  case $(nvidia-smi | grep -o 'CUDA Version: [0-9]*' | grep -o '[0-9]*$') in
    1[3-9]*) echo cuda13 ;;
    *) echo cuda12 ;;
  esac
}

if [ $offline = 0 ] && ! has_all > /dev/null 2>&1; then
  echo "installing mig_jax, its tests and jax[${JAX_EXTRA:=$(choose_extra)}]"
  "$PYTHON" -m pip install -q -e '.[lora,test]' "jax[$JAX_EXTRA]"
fi
exec "$PYTHON" tools/on_gpu.py ${arguments[@]+"${arguments[@]}"}
