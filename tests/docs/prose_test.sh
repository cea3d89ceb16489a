#!/bin/bash
# No sentence of the documents is too long: see prose_test.py.
exec python3 tests/docs/prose_test.py
