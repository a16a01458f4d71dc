#!/bin/sh
# The TinyAgent paper (arXiv 2409.00608) with this toolkit: its data, its base models, its settings.
#
#     sh recipes/tinyagent_paper.sh DATASET.json [1.1b|7b] [DIR]
#
# DATASET.json is the file of squeeze-ai-lab/TinyAgent-dataset on the Hugging Face Hub. Its rows are
# imported, an adapter is trained on the paper's base model with the paper's settings (LoRA, 3
# epochs over 80K rows, learning rate 7e-5, best on validation; rank and batch are not stated
# there and are 16 and 8 here), the model is quantized to 4 bits and scored. DIR (paper-1.1b) ends
# with index.html: data, loss, gate, both scores side by side.
#
# NOT RUN HERE: it needs the Hub, and a Mac with 16 GB (1.1b) or 64 GB (7b) of memory. Every command
# and option is tested to exist. The prompt is this project's, not the paper's.
#
# The paper's success rates on its own test rows, to compare with (published, not measured here):
#
#     model           before    16 bits, Tool RAG    4 bits, Tool RAG
#     TinyLlama-1.1B  12.71 %   80.06 %              80.35 %
#     WizardLM-2-7B   41.25 %   84.95 %              85.14 %
#
# Hours for one epoch, derived from published training speeds on an M2 Ultra (475 tokens/s at 7B)
# and 122 million tokens: about 10 h (1.1b), 72 h (7b). Blocks computed once make it less; how
# much on a Mac is not known.
set -eu
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export PATH
data=${1:?name the data set file}
size=${2:-1.1b}
dir=${3:-paper-$size}
case $size in
  1.1b) base=${BASE:-Doctor-Shotgun/TinyLlama-1.1B-32k-Instruct} ;;
  7b) base=${BASE:?name an id or folder of WizardLM-2-7B, which its makers took down} ;;
  *) echo "tinyagent_paper.sh: size is '$size'; it is 1.1b or 7b" >&2; exit 2 ;;
esac
case ${PRESET:-full} in
  smoke) iters=2 batch=2 rows=4 every=1 limit=2 share=0.2 ;; # for tests
  full) iters=30000 batch=8 rows=200 every=1000 limit=1000000 share=0.0125 ;;
  *) echo "tinyagent_paper.sh: PRESET is '$PRESET'; leave it out" >&2; exit 2 ;;
esac
mkdir -p "$dir"

if [ ! -e "$dir/data/train.jsonl" ]; then
  mlx-tinyagent data import tinyagent-hf "$data" --out "$dir/all.jsonl"
  mlx-tinyagent data split "$dir/all.jsonl" --out "$dir/data" --valid "$share" --test "$share" \
    --seed 0
fi
mlx-tinyagent models pull "$base"
if [ -e "$dir/run/checkpoint/state.json" ]; then
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --resume
else
  mlx-tinyagent train planner --data "$dir/data" --out "$dir/run" --model "$base" \
    --iters "$iters" --batch "$batch" --rank 16 --scale 2 --learning-rate 7e-5 --warmup 500 \
    --eval-every "$every" --eval-rows "$rows" --grad-checkpoint
fi
[ -e "$dir/4bit/config.json" ] ||
  mlx-tinyagent quantize --model "$base" --adapter "$dir/run" --bits 4 --data "$dir/data" \
    --tools tinyagent16 --out "$dir/4bit"
mlx-tinyagent eval plans --data "$dir/data/test.jsonl" --out "$dir/eval-16bit" --model "$base" \
  --adapter "$dir/run" --tools tinyagent16 --limit "$limit" --resume
mlx-tinyagent eval plans --data "$dir/data/test.jsonl" --out "$dir/eval-4bit" \
  --model "$dir/4bit" --adapter "$dir/4bit" --tools tinyagent16 --limit "$limit" --resume
mlx-tinyagent eval compare "$dir/eval-16bit" "$dir/eval-4bit"
mlx-tinyagent report "$dir" --title "The TinyAgent paper, $size"
