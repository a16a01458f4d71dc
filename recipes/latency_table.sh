#!/bin/sh
# The latency table of this machine: this planner against mlx-lm with the same grammar, and how the
# time grows with the number of tools.
#
#     sh recipes/latency_table.sh [DIR]
#
# DIR (latency) gets rows/, plans/, tools/ and index.html. ROWS (20) says how many requests are
# timed, MODEL and ADAPTER whose. Needs the package installed (sh scripts/setup), a quiet machine,
# and some minutes on a CPU (estimated). Figures of other machines: docs/benchmarks.md.
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
dir=${1:-latency}
rows=${ROWS:-20}
made=$((rows * 4)) # some have no plan, some a plan that the grammar does not admit
model=${MODEL:-smollm2-135m}
mkdir -p "$dir"

[ -e "$dir/rows/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/rows" --count "$made" --valid 0 --test 0 --seed 0 \
    --tools tinyagent16
mlx-tinyagent bench latency --data "$dir/rows/train.jsonl" --out "$dir/plans" --limit "$rows" \
  --model "$model" ${ADAPTER:+--adapter "$ADAPTER"}
mlx-tinyagent bench tools --out "$dir/tools" --sizes "${SIZES:-16,100,1000}" --model "$model" \
  ${ADAPTER:+--adapter "$ADAPTER"}
mlx-tinyagent report "$dir" --title "Latency"
