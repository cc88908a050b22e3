#!/bin/bash
# Trains, then tests what was trained.
set -eu
python step.py train "$@"
python step.py test "$@"
