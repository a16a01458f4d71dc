#!/bin/sh
# Other planners: Qwen3-0.6B on tool blocks, FunctionGemma-270M on the exact tier.
#
#     sh recipes/other_models.sh qwen3|functiongemma [DIR]
#
# FunctionGemma's sliding windows do not allow blocks that are computed apart, so its adapter acts
# on the whole prompt (--attention full) and is served on the exact tier. BASE names another id or
# folder. DIR ends with index.html: data, loss, figures and versions.
#
# NOT RUN HERE: it needs the Hugging Face Hub (google/functiongemma-270m-it asks for its license
# first). Every command and option is tested to exist. Hours on a Mac, days on a CPU (estimated).
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
which=${1:?name qwen3 or functiongemma}
dir=${2:-$which}
case $which in
  qwen3) base=${BASE:-qwen3-0.6b} attention=after_blocks ;;
  functiongemma) base=${BASE:-google/functiongemma-270m-it} attention=full ;;
  *) echo "other_models.sh: '$which' is neither qwen3 nor functiongemma" >&2; exit 2 ;;
esac
case ${PRESET:-full} in
  smoke) count=20 sides=4 updates=2 batch=2 limit=2 ;; # for tests
  full) count=20000 sides=1000 updates=2500 batch=8 limit=150 ;;
  *) echo "other_models.sh: PRESET is '$PRESET'; leave it out" >&2; exit 2 ;;
esac
mkdir -p "$dir"

mlx-tinyagent models pull "$base"
[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "${COUNT:-$count}" --valid "$sides" \
    --test "$sides" --seed 0 --tools tinyagent16
if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --resume
else
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --model "$base" \
    --attention "$attention" --iters "${UPDATES:-$updates}" --batch "$batch" --eval-every 250 \
    --eval-rows "$sides"
fi
mlx-tinyagent eval plans --data "$dir/data/test.jsonl" --out "$dir/eval" --model "$base" \
  --adapter "$dir/run" --tools tinyagent16 --limit "$limit" --resume
mlx-tinyagent report "$dir" --title "$which as a planner"
