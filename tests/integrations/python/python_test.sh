#!/bin/bash
# The Python package, with the libraries.
set -u
UNTORN_LIBRARY=$(readlink -f "$1") PYTHONPATH=$(dirname "$(dirname "$(readlink -f "$2")")")
UNTORN_SQLITE_LIBRARY=$(readlink -f "$4")
export UNTORN_LIBRARY UNTORN_SQLITE_LIBRARY PYTHONPATH PYTHONDONTWRITEBYTECODE=1
exec python3 "$3"
