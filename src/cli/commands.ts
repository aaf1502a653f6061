import type { Command } from 'commander';

/** One subcommand. Its module, with all that it imports, loads only when it is the one asked for. */
export interface CommandRow {
  /** One line for `nereid --help`. */
  summary: string;
  /** What follows the name in `nereid --help`. */
  usage: string;
  load(): Promise<{ createCommand(): Command }>;
}

/** Every subcommand, in the order that `nereid --help` shows. */
export const commands: Record<string, CommandRow> = {
  serve: {
    summary: 'serve a model over HTTP, building its engine first where needed',
    usage: '<model> [options]',
    load: () => import('./serve.ts'),
  },
  generate: {
    summary: 'print one answer of a model, in this process',
    usage: '<model> [options]',
    load: () => import('./generate.ts'),
  },
  build: {
    summary: 'convert and quantize a model into an engine folder',
    usage: '[model] [options]',
    load: () => import('./build.ts'),
  },
  load: {
    summary: 'send load to a server and report latencies and throughput',
    usage: '[options]',
    load: () => import('./load.ts'),
  },
  bench: {
    summary: 'benchmarks as the field runs them, and reports of their results',
    usage: '<serving|sweep|core|identity|report> [options]',
    load: () => import('./bench.ts'),
  },
  trace: {
    summary: 'turn what the tracer recorded into CSV, a Perfetto file or a summary',
    usage: '<to-csv|to-perfetto|summary> <trace>',
    load: () => import('./trace.ts'),
  },
  client: {
    summary: 'the clients of TensorRT-LLM’s Triton backend: inflight, e2e',
    usage: '<inflight|e2e> [options]',
    load: () => import('./client.ts'),
  },
  launch: {
    summary: 'start a server over a model repository and return (launch_triton_server.py)',
    usage: '[options]',
    load: () => import('./launch.ts'),
  },
  repo: {
    summary: 'make, fill and check model repositories (Triton’s layout)',
    usage: '<create|fill|check> …',
    load: () => import('./repo.ts'),
  },
  models: {
    summary: 'list the catalogue of models and where they come from',
    usage: '[options]',
    load: () => import('./models.ts'),
  },
  doctor: {
    summary: 'check what this machine can run',
    usage: '[options]',
    load: () => import('./doctor.ts'),
  },
  completion: {
    summary: 'print a completion script for bash, zsh or fish',
    usage: '<shell> [--make]',
    // It completes this table, so it is handed it: an import would be a circle.
    load: async () => {
      const { completionCommand } = await import('./completion.ts');
      return { createCommand: () => completionCommand(commands) };
    },
  },
  version: {
    summary: "print Nereid's version and that of what it runs on",
    usage: '[options]',
    load: () => import('./version.ts'),
  },
};
