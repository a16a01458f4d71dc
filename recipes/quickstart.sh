#!/bin/sh
# A first look: an invented world, a plan that is shown, run and taken back, a request to the model.
#
#     sh recipes/quickstart.sh                with the default model (98 MB, fetched once)
#     NO_MODEL=1 sh recipes/quickstart.sh     without a model
#
# Ends with ./quickstart/index.html. Needs the package installed (sh scripts/setup). About a
# minute (estimated). The store is one of its own in ./quickstart-home, so that nothing of yours
# is touched; the model is kept as usual.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
PATH="$root/.venv/bin:$PATH"
export PATH

if [ -z "${NO_MODEL:-}" ]; then
  mlx-tinyagent models pull smollm2-135m
  model=$(mlx-tinyagent models show smollm2-135m --json | sed -n 's/^  "folder": "\(.*\)",$/\1/p')
fi
MLX_TINYAGENT_HOME=$PWD/quickstart-home
export MLX_TINYAGENT_HOME

mlx-tinyagent demo-data
mlx-tinyagent run "$root/recipes/lunch.plan" --yes
mlx-tinyagent log
mlx-tinyagent undo --yes
mkdir -p quickstart
mlx-tinyagent log --json >quickstart/log.json
if [ -z "${NO_MODEL:-}" ]; then
  mlx-tinyagent ask "Get Kate Murphy's phone number" --model "$model" --json >quickstart/answer.json
  sed -n 's/^  "reply": "\(.*\)",$/\1/p' quickstart/answer.json
fi
mlx-tinyagent report quickstart --title "A first look"
