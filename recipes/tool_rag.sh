#!/bin/sh
# Tool RAG: a classifier that chooses tools, trained, calibrated and measured.
#
#     sh recipes/tool_rag.sh [DIR]
#
# DIR (tool-rag) gets data/ and run/ (classifier, report.json, plots). TOOLS names another tool set of
# at least 10 tools. The rows here are generated; calibrate on requests of your own (docs/tool-rag.md)
# for a promise about them. Needs the package installed (sh scripts/setup). Not run here from end to
# end with these numbers; an hour or more on a CPU (estimated). It goes on where it was stopped.
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
dir=${1:-tool-rag}
tools=${TOOLS:-tinyagent16}
mkdir -p "$dir"

[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "${COUNT:-20000}" --seed 0 --tools "$tools"

if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train tool-rag --data "$dir/data" --out "$dir/run" --resume
else
  mlx-tinyagent train tool-rag --data "$dir/data" --out "$dir/run" --tools "$tools" \
    --embeddings smollm2-135m --iters "${UPDATES:-3000}"
fi
mlx-tinyagent retrieve explain "${REQUEST:-text Ana that the train is late}" --tools "$tools" \
  --classifier "$dir/run/classifier"
