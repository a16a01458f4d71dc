#!/bin/sh
# The default planner: an adapter for smollm2-135m on the 16 tools, from generated rows and, where
# there are any, real ones.
#
#     sh recipes/default_planner.sh [DIR]
#
# DIR (planner) gets data/, run/ and eval/. EXTRA names a file of rows to mix in, each of them twice,
# such as TinyAgent's published items; SILVER a file of people's commands to take phrasing from.
# HELD_OUT names the rows to score on (the generated test rows otherwise). Needs the package installed
# (sh scripts/setup). Not run here from end to end: 80,000 rows take minutes, the updates hours to
# days on a CPU (estimated); every step goes on where it was stopped.
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
dir=${1:-planner}
count=${COUNT:-80000}
updates=${UPDATES:-10000}
mkdir -p "$dir"

[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "$count" --seed 0 --tools tinyagent16 \
    ${SILVER:+--mine "$SILVER"}

if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train planner --data "$dir/data" ${EXTRA:+--data "$EXTRA" --data "$EXTRA"} \
    --out "$dir/run" --resume
else
  mlx-tinyagent train planner --data "$dir/data" ${EXTRA:+--data "$EXTRA" --data "$EXTRA"} \
    --out "$dir/run" --model smollm2-135m --iters "$updates" --batch 8 --learning-rate 5e-4 \
    --warmup 40 --distractors 6 --eval-every 150 --eval-rows 48 --save-every 25
fi
mlx-tinyagent train plot "$dir/run" --out "$dir/run/curves.svg"

mlx-tinyagent eval plans --data "${HELD_OUT:-$dir/data/test.jsonl}" --out "$dir/eval" \
  --model smollm2-135m --adapter "$dir/run" --tools tinyagent16 --limit "${LIMIT:-150}" --resume
echo "scored row by row: $dir/eval/report.html" >&2
