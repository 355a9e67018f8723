#!/usr/bin/env bash
# Creates .venv with Python 3.11 and installs the lock and the project. Run by `make setup`.
set -euo pipefail

find_python() {
  local candidate
  for candidate in python3.11 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11.*/bin/python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  if command -v uv >/dev/null; then
    uv python install --quiet 3.11 && uv python find 3.11 && return
  fi
  echo "latentline needs Python 3.11: none found on PATH, in pyenv or through uv." >&2
  echo "Install it (for instance: pyenv install 3.11, or uv python install 3.11) and try again." >&2
  return 1
}

python=$(find_python)
if [[ ! -x .venv/bin/python ]]; then
  echo "creating .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
echo "installing $(grep -c '==' requirements/lock.txt) locked packages (about 20 s; 3 min where downloads are slow)"
.venv/bin/python requirements/install.py
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
.venv/bin/python -m pip check
