#!/bin/sh
# The whole training on one GPU, from the prepared data to the measured models. Run from the repository root.
# usage: tools/embedded-model/run-on-gpu.sh DATA_DIR WORK_DIR   (in the environment: BASE, DRAFT, LORA minutes; BOOKS file;
# START=models to go on from the models there, with lower rates BASE_RATE, DRAFT_RATE, LORA_RATE)
set -e
export PYTHONUNBUFFERED=1
tools=tools/embedded-model start=$START books=${BOOKS:-$1/books.jsonl.xz} data=$1 work=$2 model=models/nereid-16m
common="--data $data --tokenizer $model/tokenizer.json"
mkdir -p "$work/logs"
python3 $tools/train.py $common --books $books ${start:+--init $start/nereid-16m --seed 2} --rate ${BASE_RATE:-3e-3} --out $work/base --minutes ${BASE:-14} --shards ${SHARDS:-240} --log $work/logs/base.json
cp $model/tokenizer.json $model/tokenizer_config.json $model/special_tokens_map.json $work/base/
python3 $tools/distill.py $work/base $common --out $work/draft --minutes ${DRAFT:-3.5} --rate ${DRAFT_RATE:-4e-3} ${start:+--init $start/nereid-draft --seed 2} --shards ${DRAFT_SHARDS:-64} --log $work/logs/draft.json
cp $model/tokenizer.json $model/tokenizer_config.json $model/special_tokens_map.json $work/draft/
python3 $tools/evaluate.py $work/base --draft $work/draft --eval $model/eval.jsonl --out $work/logs/eval-final.json --data $data --books $books
python3 $tools/evaluate.py $work/base --eval $data/eval-development.jsonl --out $work/logs/eval-development.json --show 20
for kind in json capitals; do
  python3 $tools/lora.py $work/base $kind $common --out $work/lora-$kind --minutes ${LORA:-1.2} --rate ${LORA_RATE:-3e-3} ${start:+--init $start/nereid-16m-lora-$kind --seed 2} --shards ${LORA_SHARDS:-32} --log $work/logs/lora-$kind.json
done
python3 $tools/evaluate_lora.py $work/base $model/eval.jsonl $work/logs/eval-lora.json $work/lora-json $work/lora-capitals
touch $work/done
