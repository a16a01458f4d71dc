#!/bin/sh
# The default planner: an adapter for smollm2-135m on the 16 tools, from generated rows and, where
# there are any, real ones.
#
#     sh recipes/default_planner.sh [DIR]
#
# DIR (planner) gets data/, run/ and eval/. EXTRA names a file of rows to mix in, each of them
# twice, such as TinyAgent's published items; SILVER a file of people's commands to take phrasing
# from. HELD_OUT names the rows to score on (the generated test rows otherwise). Ends with
# DIR/index.html. PRESET=tiny makes 12 updates on 300 rows in some minutes (estimated), to see
# every step. Needs the package installed (sh scripts/setup). Not run here from end to end: 80,000
# rows take minutes, the updates hours to days on a CPU (estimated); every step goes on where it
# was stopped.
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
dir=${1:-planner}
case ${PRESET:-full} in
  smoke) count=20 sides=4 updates=2 batch=2 limit=2 ;; # for tests
  tiny) count=300 sides=20 updates=12 batch=4 limit=10 ;;
  full) count=80000 sides=1000 updates=10000 batch=8 limit=150 ;;
  *) echo "default_planner.sh: PRESET is '$PRESET'; it is full or tiny" >&2; exit 2 ;;
esac
model=${MODEL:-smollm2-135m}
mkdir -p "$dir"

[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "${COUNT:-$count}" --valid "$sides" \
    --test "$sides" --seed 0 --tools tinyagent16 ${SILVER:+--mine "$SILVER"}

if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train planner --data "$dir/data" ${EXTRA:+--data "$EXTRA" --data "$EXTRA"} \
    --out "$dir/run" --resume
else
  mlx-tinyagent train planner --data "$dir/data" ${EXTRA:+--data "$EXTRA" --data "$EXTRA"} \
    --out "$dir/run" --model "$model" --iters "${UPDATES:-$updates}" --batch "$batch" \
    --learning-rate 5e-4 --warmup 40 --distractors 6 --eval-every 150 --eval-rows 48 --save-every 25
fi

mlx-tinyagent eval plans --data "${HELD_OUT:-$dir/data/test.jsonl}" --out "$dir/eval" \
  --model "$model" --adapter "$dir/run" --tools tinyagent16 --limit "${LIMIT:-$limit}" --resume
mlx-tinyagent report "$dir" --title "The default planner"
