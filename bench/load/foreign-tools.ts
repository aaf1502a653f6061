import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';

/** How to get the two tools; they need no GPU. */
export const howToInstall = `perf_analyzer and genai-perf are not there. They run without a GPU:
  python3 -m venv /tmp/perf
  /tmp/perf/bin/pip install genai-perf==0.0.8 'tritonclient[all]==2.51.0' 'transformers<5' kaleido==0.2.1 'numpy<2' nvidia-cuda-runtime-cu12
  apt-get download libb64-0d && dpkg -x libb64-0d*.deb /tmp/perf/libb64
  npm run bench:perf-analyzer -- --venv /tmp/perf`;

/** Milliseconds, and requests a second, as a tool reports them. */
export interface ToolFigures {
  requestMs: number;
  requestsPerSecond: number;
  /** Absent: the tool does not say. */
  ttftMs?: number;
}

/** What is measured. */
export interface ToolLoad {
  concurrency: number;
  tokens: number;
  intervalMs: number;
}

/** perf_analyzer and genai-perf in a Python environment of theirs. */
export class ForeignTools {
  readonly #venv: string;
  readonly #folder: string;

  /** @param folder for the files that they read and write */
  constructor(venv: string, folder: string) {
    this.#venv = resolve(venv);
    this.#folder = folder;
  }

  get isThere(): boolean {
    return ['perf_analyzer', 'genai-perf'].every((name) => existsSync(join(this.#venv, 'bin', name)));
  }

  /** perf_analyzer over KServe's gRPC stream, on the ensemble. Its latency is that to the last response, from its raw log. */
  async perfAnalyzer(url: string, prompt: string, load: ToolLoad): Promise<ToolFigures> {
    const folder = this.#fresh();
    const input = join(folder, 'input.json');
    const output = join(folder, 'perf-analyzer.json');
    const request = { text_input: [prompt], max_tokens: [load.tokens], stream: [true], end_id: [-1] };
    writeFileSync(input, JSON.stringify({ data: [request] }));
    const shapes = Object.keys(request).flatMap((name) => ['--shape', `${name}:1`]);
    await this.#run('perf_analyzer', [
      ...['-m', 'ensemble', '-i', 'grpc', '-u', url, '--streaming', '--input-data', input, ...shapes],
      ...['--concurrency-range', `${load.concurrency}`, '--measurement-interval', `${load.intervalMs}`],
      ...['--profile-export-file', output],
    ]);
    return rawFigures(output);
  }

  /** genai-perf over OpenAI's chat. */
  async genaiPerf(url: string, model: string, tokenizer: string, load: ToolLoad): Promise<ToolFigures> {
    const artifacts = this.#fresh();
    await this.#run('genai-perf', [
      ...['profile', '-m', model, '--service-kind', 'openai', '--endpoint-type', 'chat', '--streaming'],
      ...['-u', url, '--tokenizer', tokenizer, '--num-prompts', '20', '--synthetic-input-tokens-mean', '32'],
      ...['--extra-inputs', 'ignore_eos:true', '--extra-inputs', `max_tokens:${load.tokens}`],
      ...['--concurrency', `${load.concurrency}`, '--measurement-interval', `${load.intervalMs}`],
      ...['--artifact-dir', artifacts],
    ]);
    type Report = Record<'request_latency' | 'time_to_first_token' | 'request_throughput', { avg: number }>;
    const text = readFileSync(join(artifacts, 'profile_export_genai_perf.json'), 'utf8');
    const report = JSON.parse(text) as Report;
    return {
      requestMs: report.request_latency.avg,
      requestsPerSecond: report.request_throughput.avg,
      ttftMs: report.time_to_first_token.avg,
    };
  }

  /** The tools refuse to write a file that is there. */
  #fresh(): string {
    return mkdtempSync(join(this.#folder, 'run-'));
  }

  async #run(name: string, parameters: readonly string[]): Promise<void> {
    const python = join(this.#venv, 'lib');
    const libraries = [
      join(this.#venv, 'libb64/usr/lib/x86_64-linux-gnu'),
      ...['python3.10', 'python3.11', 'python3.12', 'python3.13'].map((version) =>
        join(python, version, 'site-packages/nvidia/cuda_runtime/lib'),
      ),
      process.env.LD_LIBRARY_PATH ?? '',
    ];
    const env = {
      ...process.env,
      HF_HUB_OFFLINE: '1',
      PATH: [join(this.#venv, 'bin'), process.env.PATH].join(delimiter),
      LD_LIBRARY_PATH: libraries.filter((path) => path !== '').join(delimiter),
    };
    await promisify(execFile)(join(this.#venv, 'bin', name), parameters, { env, maxBuffer: 2 ** 26 });
  }
}

interface RawRequest {
  timestamp: number;
  response_timestamps: number[];
}

/** Figures of perf_analyzer's raw log: its printed latency of a decoupled model is that to the first response. */
function rawFigures(path: string): ToolFigures {
  // Nanoseconds of the wall clock are beyond a double's whole numbers; half a microsecond is lost.
  const file = JSON.parse(readFileSync(path, 'utf8')) as {
    experiments: { requests: RawRequest[]; window_boundaries: number[] }[];
  };
  const { requests, window_boundaries: bounds } = file.experiments[0] ?? {
    requests: [],
    window_boundaries: [],
  };
  const fromNs = bounds[0] ?? 0;
  const toNs = bounds.at(-1) ?? 0;
  const ended = requests.filter(({ response_timestamps: times }) => {
    const endNs = times.at(-1) ?? 0;
    return endNs >= fromNs && endNs < toNs;
  });
  const mean = (value: (request: RawRequest) => number): number =>
    ended.reduce((sum, request) => sum + value(request), 0) / ended.length / 1e6;
  return {
    requestMs: mean(({ timestamp, response_timestamps: times }) => (times.at(-1) ?? 0) - timestamp),
    requestsPerSecond: ended.length / ((toNs - fromNs) / 1e9),
    ttftMs: mean(({ timestamp, response_timestamps: times }) => (times[0] ?? 0) - timestamp),
  };
}
