#!/bin/sh
# The whole training on one GPU, from the prepared data to the measured models. Run from the repository root.
# usage: tools/embedded-model/run-on-gpu.sh DATA_DIR WORK_DIR   (minutes for each part: BASE, DRAFT, LORA in the environment)
set -e
export PYTHONUNBUFFERED=1
tools=tools/embedded-model data=$1 work=$2 model=models/nereid-16m
common="--data $data --tokenizer $model/tokenizer.json"
mkdir -p "$work/logs"
python3 $tools/train.py $common --books $data/books.jsonl.xz --out $work/base --minutes ${BASE:-14} --shards ${SHARDS:-240} --log $work/logs/base.json
cp $model/tokenizer.json $model/tokenizer_config.json $model/special_tokens_map.json $work/base/
python3 $tools/distill.py $work/base $common --out $work/draft --minutes ${DRAFT:-3.5} --rate 4e-3 --shards 64 --log $work/logs/draft.json
cp $model/tokenizer.json $model/tokenizer_config.json $model/special_tokens_map.json $work/draft/
python3 $tools/evaluate.py $work/base --draft $work/draft --eval $model/eval.jsonl --out $work/logs/eval-final.json --data $data --books $data/books.jsonl.xz
python3 $tools/evaluate.py $work/base --eval $data/eval-development.jsonl --out $work/logs/eval-development.json --show 20
for kind in json capitals; do
  python3 $tools/lora.py $work/base $kind $common --out $work/lora-$kind --minutes ${LORA:-1.2} --rate 3e-3 --shards 32 --log $work/logs/lora-$kind.json
done
python3 $tools/evaluate_lora.py $work/base $model/eval.jsonl $work/logs/eval-lora.json $work/lora-json $work/lora-capitals
touch $work/done
