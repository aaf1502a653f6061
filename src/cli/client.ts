import { Command, Option } from 'commander';
import type { EndToEndFlags } from './client/end-to-end.ts';
import type { GptFlags } from './client/gpt.ts';
import type { InflightFlags } from './client/inflight.ts';
import type { InputDataFlags } from './client/input-data.ts';
import { integerOption, numberOption } from './values.ts';

const int32Max = 2 ** 31 - 1;
const tokenizerTypes = ['auto', 't5', 'llama', 'sp'];
const compressionNames = ['none', 'deflate', 'gzip'];

/** `nereid client` */
export function createCommand(): Command {
  const command = new Command().description(
    'The clients of TensorRT-LLM’s Triton backend, over KServe gRPC.',
  );
  command.addCommand(inflightCommand());
  command.addCommand(endToEndCommand());
  command.addCommand(gptCommand());
  command.addCommand(inputDataCommand());
  return command;
}

function inflightCommand(): Command {
  return new Command('inflight')
    .description('inflight_batcher_llm_client.py: token ids to the model tensorrt_llm')
    .option('-u, --url <host:port>', 'KServe gRPC', 'localhost:8001')
    .option('-s, --ssl', 'TLS')
    .option('-r, --root-certificates <file>', 'PEM; default: those of Node')
    .option('-p, --private-key <file>', 'PEM, for mutual TLS')
    .option('-x, --certificate-chain <file>', 'PEM, for mutual TLS')
    .addOption(
      new Option('-C, --grpc-compression-algorithm <name>', 'of what is sent').choices(compressionNames),
    )
    .option('-t, --stream-timeout <seconds>', 'default: none', numberOption(0, 1_000_000))
    .option('--model-name <name>', '', 'tensorrt_llm')
    .option('--text <text>', 'the prompt', 'Born in north-east France, Soyer trained as a')
    .option('--input-tokens-csv <file>', 'ids instead of a text, comma separated')
    .option('--output-tokens-csv <file>', 'the ids that --check-output expects')
    .option('--tokenizer-dir <folder>', 'a folder with tokenizer.json; needed for --text')
    .addOption(
      new Option(
        '--tokenizer-type <name>',
        'as the original takes it; tokenizer.json says it by itself',
      ).choices(tokenizerTypes),
    )
    .option('--end-id <id>', "default: the tokenizer's", integerOption(-1, int32Max))
    .option('--pad-id <id>', '', integerOption(-1, int32Max), 50256)
    .option('--request-output-len <n>', 'tokens to make', integerOption(1, int32Max), 16)
    .option('-S, --streaming', 'ModelStreamInfer, a response a step')
    .option('-n, --num-return-sequences <n>', '', integerOption(1, 1024))
    .option('-b, --beam-width <n>', '', integerOption(1, 1024), 1)
    .option('--temperature <x>', '', numberOption(0, 100), 1)
    .option('--repetition-penalty <x>', '', numberOption(0, 100))
    .option('--presence-penalty <x>', '', numberOption(-100, 100))
    .option('--frequency-penalty <x>', '', numberOption(-100, 100))
    .option('--top-k <n>', '', integerOption(0, int32Max), 1)
    .option('--top-p <x>', '', numberOption(0, 1), 0)
    .option('--request-id <id>', '', '')
    .option('--stop-after-ms <n>', 'stop the request after so long', integerOption(0, int32Max), 0)
    .option('--stop-via-request-cancel', 'stop it by cancelling the call, not by a stop request')
    .option('--exclude-input-in-output', 'leave the prompt out of the answer')
    .option('--lora-path <folder>', 'of hf_lora_convert.py: its weights go with the request')
    .option('--lora-task-id <id>', '0 is none', integerOption(0, Number.MAX_SAFE_INTEGER), 0)
    .option('--return-log-probs', '')
    .option('--return-context-logits', 'print the shape of what comes')
    .option('--return-generation-logits', 'print the shape of what comes with the last response')
    .option('--return-perf-metrics', '')
    .option('-c, --check-output', 'compare with --output-tokens-csv')
    .option('--correctness-threshold <share>', 'of ids that must be equal', numberOption(0, 1), 1)
    .action(async (flags: InflightFlags) => {
      const { runInflight } = await import('./client/inflight.ts');
      await runInflight(flags);
    });
}

function endToEndCommand(): Command {
  return new Command('e2e')
    .description('end_to_end_grpc_client.py: texts to ensemble or tensorrt_llm_bls')
    .requiredOption('-p, --prompt <text>', 'a text, or a JSON list of texts')
    .option('-u, --url <host:port>', 'KServe gRPC', 'localhost:8001')
    .option('--model-name <name>', '', 'ensemble')
    .option('-o, --output-len <n>', 'tokens to make', integerOption(1, int32Max), 100)
    .option('-S, --streaming', 'a response a step')
    .option('-b, --beam-width <n>', '', integerOption(1, 1024), 1)
    .option('-n, --num-return-sequences <n>', '', integerOption(1, 1024))
    .option('--temperature <x>', '', numberOption(0, 100), 1)
    .option('--repetition-penalty <x>', '', numberOption(0, 100))
    .option('--presence-penalty <x>', '', numberOption(-100, 100))
    .option('--frequency-penalty <x>', '', numberOption(-100, 100))
    .option('--request-id <id>', '', '')
    .option('--stop-words <words...>', '')
    .option('--bad-words <words...>', '')
    .option('--embedding-bias-words <words...>', '')
    .option('--embedding-bias-weights <weights...>', '')
    .option('--end-id <id>', '', integerOption(-1, int32Max))
    .option('--pad-id <id>', '', integerOption(-1, int32Max))
    .option('--overwrite-output-text', 'streamed pieces carry the whole text (accumulate_tokens)')
    .option('--exclude-input-in-output', 'leave the prompt out of the answer')
    .option('--return-log-probs', '')
    .option('--batch-inputs', 'all prompts as one request')
    .option('--expected-outputs <texts...>', 'what --check-outputs compares with')
    .option('--check-outputs', '')
    .action(async (flags: EndToEndFlags) => {
      const { runEndToEnd } = await import('./client/end-to-end.ts');
      await runEndToEnd(flags);
    });
}

function gptCommand(): Command {
  return new Command('gpt')
    .description('tools/gpt/client.py: one text to the model tensorrt_llm, and how long it took')
    .requiredOption('--tokenizer-dir <folder>', 'a folder with tokenizer.json')
    .addOption(
      new Option(
        '--tokenizer-type <name>',
        'as the original takes it; tokenizer.json says it by itself',
      ).choices(tokenizerTypes),
    )
    .option('-u, --url <host:port>', 'KServe gRPC', 'localhost:8001')
    .option('-t, --text <text>', 'the prompt', 'Born in north-east France, Soyer trained as a')
    .option('-o, --output-len <n>', 'tokens to make', integerOption(1, int32Max), 10)
    .option('--topk <n>', '', integerOption(0, int32Max), 1)
    .option('--topp <x>', '', numberOption(0, 1), 0)
    .action(async (flags: GptFlags) => {
      const { runGpt } = await import('./client/gpt.ts');
      await runGpt(flags);
    });
}

/** Samples that one file may hold. */
const samplesMax = 1_000_000;

function inputDataCommand(): Command {
  return new Command('gen-input-data')
    .description('tools/gpt/gen_input_data.py: random ids as `perf_analyzer --input-data` takes them')
    .option('--num-samples <n>', '', integerOption(1, samplesMax), 10_000)
    .option('-s, --start-len <n>', 'ids of each prompt', integerOption(1, 1_000_000), 8)
    .option('-o, --output-len <n>', 'tokens to make', integerOption(1, int32Max), 10)
    .option('--beam-width <n>', '', integerOption(1, 1024), 1)
    .option('--topk <n>', '', integerOption(0, int32Max), 1)
    .option('--topp <x>', '', numberOption(0, 1), 0)
    .option('--seed <n>', '', integerOption(0, Number.MAX_SAFE_INTEGER), 0)
    .option('--output <file>', '', 'input_data.json')
    .action(async (flags: InputDataFlags) => {
      const { writeInputData } = await import('./client/input-data.ts');
      await writeInputData(flags);
    });
}
