#!/bin/sh
# A tool set that is not the Mac's: WorkBench's calendar, e-mail, analytics, CRM and task tools,
# planned before and after training on rows that were generated from their declarations alone.
#
#     sh recipes/workbench.sh TASKS.jsonl [DIR]     an hour or two on a CPU (estimated)
#
# PRESET=tiny shows every step in some minutes, PRESET=full takes most of a day (both estimated).
# TASKS.jsonl has WorkBench's tasks (github.com/olly-styles/WorkBench, MIT), one JSON object a line
# with query and answer. Rows that one plan can answer are kept (workbench_rows.py): 269 of 690.
# Only the choice of tools is comparable (tinyagent_success, tool_full_recall): WorkBench's
# identifiers are looked up by its agents, ours are words of the request (workbench_tools.py).
# Three planners are scored on the same rows: the untuned model, the model with its own adapter,
# which never saw these tools (shipped), and that adapter trained on (after). DIR (workbench) ends
# with index.html. None of WorkBench's rows is trained on. Every step goes on where it was stopped.
# Needs the package installed (sh scripts/setup).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
export PATH
tasks=${1:?name the file of tasks}
dir=${2:-workbench}
model=${MODEL:-smollm2-135m}
case ${PRESET:-hour} in
  smoke) rows=20 valid=4 updates=2 batch=2 limit=2 ;; # for tests
  tiny) rows=400 valid=20 updates=20 batch=4 limit=20 ;;
  hour) rows=2000 valid=40 updates=200 batch=8 limit=80 ;;
  full) rows=8000 valid=200 updates=1000 batch=8 limit=1000 ;;
  *) echo "workbench.sh: PRESET is '$PRESET'; it is hour, full or tiny" >&2; exit 2 ;;
esac
tools=$here/workbench_tools.py
mkdir -p "$dir"

mlx-tinyagent data import workbench "$tasks" --out "$dir/imported.jsonl"
python "$here/workbench_rows.py" "$dir/imported.jsonl" "$dir/rows.jsonl"
mlx-tinyagent eval plans --data "$dir/rows.jsonl" --out "$dir/before" --model "$model" \
  --adapter none --tools "$tools" --limit "$limit" --resume
mlx-tinyagent eval plans --data "$dir/rows.jsonl" --out "$dir/shipped" --model "$model" \
  --tools "$tools" --limit "$limit" --resume

[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "$rows" --valid "$valid" --test 0 --seed 0 \
    --tools "$tools"
if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --resume
else
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --model "$model" \
    --start own --tools "$tools" --iters "$updates" --batch "$batch" --learning-rate 3e-4 \
    --warmup 10 --distractors 6 --eval-every 50 --eval-rows "$valid" --save-every 20
fi
mlx-tinyagent eval plans --data "$dir/rows.jsonl" --out "$dir/after" --model "$model" \
  --adapter "$dir/run" --tools "$tools" --limit "$limit" --resume
mlx-tinyagent eval compare "$dir/before" "$dir/after"
mlx-tinyagent eval compare "$dir/shipped" "$dir/after"
mlx-tinyagent report "$dir" --title "WorkBench, before and after training"
