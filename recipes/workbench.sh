#!/bin/sh
# A tool set that is not the Mac's: WorkBench's calendar, e-mail, analytics, CRM and task tools,
# planned before and after training on rows that were generated from their declarations alone.
#
#     sh recipes/workbench.sh TASKS.jsonl [DIR]     hours on a CPU (estimated), PRESET=tiny to try it
#
# TASKS.jsonl has WorkBench's tasks (github.com/olly-styles/WorkBench, MIT), one JSON object a line
# with query and answer. Rows that one plan can answer are kept (workbench_rows.py): 269 of 690.
# Only the choice of tools is comparable (tinyagent_success, tool_full_recall): WorkBench's
# identifiers are looked up by its agents, ours are words of the request (workbench_tools.py). DIR
# (workbench) ends with index.html. None of its rows is trained on. Every step goes on where it
# was stopped. Needs the package installed (sh scripts/setup).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
export PATH
tasks=${1:?name the file of tasks}
dir=${2:-workbench}
model=${MODEL:-smollm2-135m}
case ${PRESET:-full} in
  smoke) rows=20 valid=4 updates=2 batch=2 limit=2 ;; # for tests
  tiny) rows=400 valid=20 updates=20 batch=4 limit=20 ;;
  full) rows=8000 valid=200 updates=1000 batch=8 limit=1000 ;;
  *) echo "workbench.sh: PRESET is '$PRESET'; it is full or tiny" >&2; exit 2 ;;
esac
tools=$here/workbench_tools.py
mkdir -p "$dir"

mlx-tinyagent data import workbench "$tasks" --out "$dir/imported.jsonl"
python "$here/workbench_rows.py" "$dir/imported.jsonl" "$dir/rows.jsonl"
mlx-tinyagent eval plans --data "$dir/rows.jsonl" --out "$dir/before" --model "$model" \
  --adapter none --tools "$tools" --limit "$limit" --resume

[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "$rows" --valid "$valid" --test 0 --seed 0 \
    --tools "$tools"
if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --resume
else
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --model "$model" \
    --tools "$tools" --iters "$updates" --batch "$batch" --warmup 10 --eval-every 100 \
    --eval-rows "$valid"
fi
mlx-tinyagent eval plans --data "$dir/rows.jsonl" --out "$dir/after" --model "$model" \
  --adapter "$dir/run" --tools "$tools" --limit "$limit" --resume
mlx-tinyagent eval compare "$dir/before" "$dir/after"
mlx-tinyagent report "$dir" --title "WorkBench, before and after training"
