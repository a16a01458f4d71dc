#!/bin/sh
# Tool RAG: a classifier that chooses tools, trained, calibrated and measured.
#
#     sh recipes/tool_rag.sh [DIR]
#
# DIR (tool-rag) gets data/, run/ (classifier, report.json, plots), bm25/ and index.html. TOOLS
# names another tool set of at least 10 tools. The rows here are generated; calibrate on requests
# of your own (docs/tool-rag.md) for a promise about them. Needs the package installed (sh
# scripts/setup). Not run here from end to end with these numbers; an hour or more on a CPU
# (estimated). It goes on where it was stopped.
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
dir=${1:-tool-rag}
case ${PRESET:-full} in
  smoke) count=200 sides=40 updates=4 small="--hidden 32 --layers 1 --heads 2" ;; # for tests
  full) count=20000 sides=1000 updates=3000 small="--embeddings smollm2-135m" ;;
  *) echo "tool_rag.sh: PRESET is '$PRESET'; leave it out" >&2; exit 2 ;;
esac
tools=${TOOLS:-tinyagent16}
mkdir -p "$dir"

[ -e "$dir/data/config.json" ] ||
  mlx-tinyagent data synth --out "$dir/data" --count "${COUNT:-$count}" --valid "$sides" \
    --test "$sides" --seed 0 --tools "$tools"

if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train tool-rag --data "$dir/data" --out "$dir/run" --resume
else # $small holds several words
  mlx-tinyagent train tool-rag --data "$dir/data" --out "$dir/run" --tools "$tools" $small \
    --iters "${UPDATES:-$updates}"
fi
mlx-tinyagent retrieve explain "${REQUEST:-text Ana that the train is late}" --tools "$tools" \
  --classifier "$dir/run/classifier"
[ -e "$dir/bm25/summary.json" ] ||
  mlx-tinyagent eval tools --data "$dir/data/test.jsonl" --out "$dir/bm25" --retriever bm25 \
    --tools "$tools"
mlx-tinyagent report "$dir" --title "Tool RAG"
