import { Command } from 'commander';
import type { LaunchFlags } from './launch-run.ts';
import { integerOption, portOption } from './values.ts';

/** `nereid launch` */
export function createCommand(): Command {
  return new Command()
    .description(
      'launch_triton_server.py: starts `nereid serve` over a model repository and returns; no mpirun.',
    )
    .option(
      '--world_size <n>',
      'checked for being 1 with --multi-model; an engine knows its own ranks',
      integerOption(1, 1024),
      1,
    )
    .option('--model_repo <folder>', 'the model repository', 'all_models/gpt')
    .option('--grpc_port <n>', 'KServe over gRPC', portOption, 8001)
    .option('--http_port <n>', 'KServe and OpenAI over HTTP', portOption, 8000)
    .option('--metrics_port <n>', '/metrics', portOption, 8002)
    .option('-f, --force', 'start even if a server answers on the HTTP port')
    .option('--log', 'log verbosely, into --log-file')
    .option('--log-file <path>', 'used with --log', 'triton_log.txt')
    .option('--multi-model', 'orchestrator mode; several models are always possible here')
    .option('--tensorrt_llm_model_name <names>', 'comma list; each must be a model of the repository')
    .option('--tritonserver <path>', 'the program to start instead of nereid')
    .option('--no-mpi', 'there is none')
    .option('--oversubscribe', 'an option of mpirun')
    .option('--disable-spawn-processes', 'an option of the original orchestrator')
    .option('--trtllm_llmapi_launch', 'an option of the original launcher')
    .option(
      '--exit_timeout <seconds>',
      'how long running requests may finish on SIGTERM',
      integerOption(0, 86_400),
    )
    .addHelpText(
      'after',
      '\nThe server goes on when this returns. Stop it with SIGTERM; the process id is printed.',
    )
    .action(async (flags: LaunchFlags) => {
      const { launch } = await import('./launch-run.ts');
      await launch(flags);
    });
}
