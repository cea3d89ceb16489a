#!/bin/bash
# The Python package, with the library beside it.
set -u
UNTORN_LIBRARY=$(readlink -f "$1") PYTHONPATH=$(dirname "$(dirname "$(readlink -f "$2")")")
export UNTORN_LIBRARY PYTHONPATH PYTHONDONTWRITEBYTECODE=1
exec python3 "$3"
