#!/bin/sh
# Runs all steps of the recipe on generated text, without network: sample.sh FOLDER CHECKPOINT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$1
checkpoint=$2
mkdir -p "$work"
export HF_HUB_OFFLINE=1
python "$here/sample.py" "$work/texts.jsonl" --passages 300
python "$here/prepare.py" "$work/data" json="$work/texts.jsonl"
python "$here/embed.py" "$work/data" words --teacher hash
python "$here/train.py" "$work/data" "$checkpoint" "$work/run" --teachers words --minutes 0.3 --lists 4
python "$here/make_small.py" "$work/run/checkpoint" "$work/small-start"
python "$here/train.py" "$work/data" "$work/small-start" "$work/small-run" \
    --teachers words --minutes 0.3 --lists 4 --no-freeze-words --rate 5e-4
python "$here/evaluate.py" "$work/small-run/checkpoint" --out "$work/figures.json"
crossrank export "$work/small-run/checkpoint" "$work/artifact" --force --activation identity --precision int8
