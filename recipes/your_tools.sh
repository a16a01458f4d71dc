#!/bin/sh
# Your own tools, from a Python file to a quantized model that plans with them, measured.
#
#     sh recipes/your_tools.sh [DIR]                 about an hour on a laptop's CPU (estimated)
#     PRESET=tiny sh recipes/your_tools.sh [DIR]     some minutes (estimated), to see every step
#
# DIR (my_agent) is made with two example tools where it is not there yet. Change its tools.py and
# phrases.json, remove its folder out, and run this again. Steps that are done are not repeated.
# Ends with DIR/out/index.html. Needs the package installed (sh scripts/setup).
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
dir=${1:-my_agent}

[ -e "$dir/tools.py" ] || mlx-tinyagent init "$dir"
exec sh "$dir/run.sh"
