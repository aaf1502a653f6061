import { Command, InvalidArgumentError, Option } from 'commander';
import { kvDtypes } from '../device/device.ts';
import { devices } from '../device/registry.ts';
import { ranksMax } from '../models/partition.ts';
import { requestTimeoutMs } from '../protocol/limits.ts';
import { reasoningFormats } from '../protocol/reasoning/registry.ts';
import { toolFormats } from '../protocol/tool-parsers/registry.ts';
import { type RestrictedApi, type Restriction, restrictedApis } from '../protocol/triton/context.ts';
import type { ModelControlMode } from '../repository/model.ts';
import { capacityPolicyNames } from '../runtime/plan/capacity.ts';
import { restartsInARowMax } from '../runtime/process/restart-budget.ts';
import type { Pooling } from '../runtime/requests/request.ts';
import { routingDefault, routingNames } from '../runtime/routing/router.ts';
import { CliError } from './errors.ts';
import { adapterOptions, addAdapterOptions, allowsLoraUpdates } from './serving/adapter-options.ts';
import { logLevelFrom, logLevels } from './serving/log-level.ts';
import type {
  AnswerOptions,
  KserveOptions,
  RepositoryServeOptions,
  ServeOptions,
  TrafficOptions,
} from './serving/options.ts';
import type { SecurityOptions } from './serving/security.ts';
import { serve } from './serving/serve.ts';
import { addSpeculationOptions, speculationChoice } from './speculation-flags.ts';
import { threadsMax } from './threads.ts';
import {
  commaListOption,
  integerOption,
  keyValueOption,
  listOption,
  nameOption,
  numberOption,
  portOption,
  sizeOption,
} from './values.ts';

const examples = `
Examples:
  nereid serve                                        the catalogue's default model on port 8000
  nereid serve ./model.gguf --http-port 9000
  nereid serve ./hf-folder --metrics-port 8002 --grpc-port 8001
  nereid serve --model-repository ./repository --grpc-port 8001 --metrics-port 8002
  nereid serve nereid-16m --device null --device-option step-ms=5     no maths: for load tests

Then: curl localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
        -d '{"messages":[{"role":"user","content":"Hello"}]}'

Ctrl-C stops taking requests, lets running ones finish (--drain-seconds), then ends; a second one ends at once.`;

// A question that the default model and the embedded one, a dictionary, can both answer.
const selfTestPrompt = 'What is a lighthouse?';

/** `nereid serve` */
export function createCommand(): Command {
  const command = new Command()
    .description(
      'Serves models over HTTP (OpenAI, KServe v2) and gRPC (KServe v2), building their engines first where needed.',
    )
    .argument(
      '[models...]',
      'engine folder, .gguf, Hugging Face folder, hub name (org/name) or catalogue name (default: the catalogue’s default, unless there is a --model-repository)',
    );
  addNetworkOptions(command);
  addRepositoryOptions(command);
  addSecurityOptions(command);
  addEngineOptions(command);
  addAdapterOptions(command);
  return addOperationOptions(command)
    .addHelpText('after', examples)
    .action(async (models: string[], flags: Record<string, unknown>, command: Command) => {
      const options = toOptions(models, flags);
      await serve(flags.britonConfig === undefined ? options : await withBritonConfig(options, command));
    });
}

/** A name of vLLM's or of habit for one of our options; not in the help. */
function alias<T>(flags: string, parse: (text: string) => T): Option {
  return new Option(flags).argParser(parse).hideHelp();
}

function addNetworkOptions(command: Command): void {
  const streamInterval =
    'steps that one event of a stream tells of (the first token and the end come at once)';
  const toolParser = `how the model writes calls to tools: ${toolFormats.names.join(', ')}, none (default: as its chat template shows)`;
  const pooling = 'whose hidden state an embedding is: the last token (default), or the mean of all';
  const reasoningParser = `how it sets reasoning apart: ${reasoningFormats.names.join(', ')}, none (default: as its chat template shows)`;
  command
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option(
      '--http-port <n>',
      'OpenAI and KServe protocols, health, metrics; 0 picks a free port',
      portOption,
      8000,
    )
    .addOption(alias('-p, --port <n>', portOption))
    .option('--grpc-port <n>', 'KServe over gRPC, health and reflection; off unless given', portOption)
    .option('--briton-port <n>', "Briton's gRPC service (usually 50051); off unless given", portOption)
    .option('--briton-config <file>', 'a BritonConfig file: engine, port, scheduler and KV cache settings')
    .option('--briton-schemas <folder>', "JSON schemas by their hashes, for Briton's output_schema_hash")
    .option('--metrics-port <n>', '/metrics on a port of its own as well; off unless given', portOption)
    .option('--front-ends <n>', 'front-end processes that share the HTTP port', integerOption(1, 64), 1)
    .option('--stream-interval <n>', streamInterval, integerOption(1, 1024), 1)
    .option('--tool-call-parser <name>', toolParser, nameOption('tool-call parser', toolFormats.names))
    .option(
      '--reasoning-parser <name>',
      reasoningParser,
      nameOption('reasoning parser', reasoningFormats.names),
    )
    .addOption(new Option('--pooling <name>', pooling).choices(['last', 'mean'] satisfies readonly Pooling[]))
    .option('--trust-request-chat-template', 'take a chat_template from requests', false)
    .option('--served-model-name <name>', 'what the model is called in requests (one model only)');
}

/** tritonserver's options, by its names. */
function addRepositoryOptions(command: Command): void {
  const choice = (flags: string, description: string): Option =>
    new Option(flags, description).choices(['true', 'false']);
  const restricted = 'these APIs ask for that header; repeatable (health, metadata, inference, …)';
  command
    .option('--model-repository <folder>', 'serve the models of this folder; repeatable', listOption, [])
    .addOption(
      new Option('--model-control-mode <mode>', 'when models are loaded')
        .choices(['none', 'poll', 'explicit'])
        .default('none'),
    )
    .option(
      '--load-model <name>',
      'load this one at the start, in explicit mode; repeatable; * is all',
      listOption,
      [],
    )
    .option(
      '--repository-poll-secs <n>',
      'how often folders are looked at, in poll mode',
      numberOption(0.1, 86_400),
      15,
    )
    .addOption(choice('--strict-readiness <truth>', 'ready only when every model is').default('true'))
    .addOption(choice('--exit-on-error <truth>', 'end when a model fails to load').default('true'))
    .option('--disable-auto-complete-config', 'take config.pbtxt as it is', false)
    .option('--id <name>', "the server's name in KServe's metadata", 'triton')
    .option(
      '--http-max-input-size <size>',
      "largest body of KServe's HTTP protocol",
      sizeOption,
      64 * 1024 * 1024,
    )
    .option('--http-restricted-api <apis:header=value>', restricted, restrictionOption, [])
    .option('--grpc-restricted-protocol <apis:header=value>', restricted, restrictionOption, []);
}

/** `API,API:HEADER=VALUE`, gathered. */
function restrictionOption(value: string, earlier: Restriction[]): Restriction[] {
  const [, names = '', header, secret] = /^([^:]+):([^=]+)=(.+)$/.exec(value) ?? [];
  const apis = names.split(',').map((name) => name.trim());
  const unknown = apis.find((name) => !(restrictedApis as readonly string[]).includes(name));
  if (!header || !secret || unknown !== undefined) {
    const message = `'${value}' is no API,API:HEADER=VALUE; APIs: ${restrictedApis.join(', ')}`;
    throw new InvalidArgumentError(message);
  }
  return [...earlier, { apis: apis as RestrictedApi[], header: header.trim(), value: secret.trim() }];
}

function addSecurityOptions(command: Command): void {
  const keyFile = 'named keys with limits, YAML; SIGHUP reads it again (docs/serving.md)';
  const origins = 'web origins that may read answers, separated by commas; * is all';
  command
    .addOption(
      new Option('--api-key <key>', 'ask for this bearer token; repeatable; others see it in ps')
        .argParser(listOption)
        .default([], 'NEREID_API_KEY, separated by commas'),
    )
    .option('--api-key-file <path>', keyFile)
    .option('--cors-origins <origins>', origins, commaListOption, [])
    .option('--tls-certificate <path>', 'PEM: the certificate and its chain; all ports then speak TLS')
    .option('--tls-key <path>', 'PEM: its private key')
    .option('--tls-client-authority <path>', 'PEM: clients must show a certificate of this authority');
}

function securityOf(flags: Record<string, unknown>): SecurityOptions {
  const { apiKey, apiKeyFile, corsOrigins, tlsCertificate, tlsKey, tlsClientAuthority } = flags as {
    apiKey: string[];
    corsOrigins: string[];
  } & Record<'apiKeyFile' | 'tlsCertificate' | 'tlsKey' | 'tlsClientAuthority', string | undefined>;
  if ((tlsCertificate === undefined) !== (tlsKey === undefined) || (tlsClientAuthority && !tlsKey)) {
    throw new CliError('CLI_VALUE_INVALID', 'TLS needs both --tls-certificate and --tls-key');
  }
  const fromEnvironment = commaListOption(process.env.NEREID_API_KEY ?? '');
  return {
    apiKeys: [...apiKey, ...fromEnvironment],
    apiKeyFile,
    corsOrigins,
    tls:
      tlsCertificate && tlsKey
        ? { certificateFile: tlsCertificate, keyFile: tlsKey, clientAuthorityFile: tlsClientAuthority }
        : undefined,
  };
}

function addEngineOptions(command: Command): void {
  const threads = 'CPU threads of each engine (default: the cores, shared between engines)';
  const kvCache = 'memory for the KV cache, e.g. 2GB (default: what the machine can spare)';
  const kvBlock = "positions of a KV block (default: the device's own; on ggml a slot a sequence)";
  const kvHost = 'host memory that evicted KV blocks move to, on devices with blocks (default: none)';
  const inFlight = 'steps launched before the first is read, on devices that can; 1 is the plain loop';
  const outputMemory = 'memory for logits and hidden states that requests ask for (default: 512MB)';
  const contextLength = "positions a sequence, if less than the model's own";
  const deviceOption = 'a setting of that device; repeatable';
  command
    .addOption(
      new Option('--device <name>', 'what runs the model (default: what it was built for, ggml)').choices(
        devices.names,
      ),
    )
    .option('--device-option <name=value>', deviceOption, keyValueOption, {})
    .option('--engines <n>', 'engine processes per model', integerOption(1, 64), 1)
    .addOption(
      new Option('--routing <name>', 'which of several engines a request goes to')
        .choices(routingNames)
        .default(routingDefault),
    )
    .option('--threads <n>', threads, integerOption(1, threadsMax))
    .option('--max-sequences <n>', 'sequences in flight at most, per engine', integerOption(1, 4096), 32)
    .option('--max-batch-tokens <n>', 'token budget of one step', integerOption(1, 65_536), 512)
    .option('--kv-cache-size <size>', kvCache, sizeOption)
    .addOption(
      new Option('--kv-dtype <type>', "type of the KV cache (default: the engine's)").choices(kvDtypes),
    )
    .option('--context-length <n>', contextLength, integerOption(2, 2 ** 24))
    .addOption(alias('--max-model-len <n>', integerOption(2, 2 ** 24)))
    .addOption(alias('--max-num-seqs <n>', integerOption(1, 4096)))
    .addOption(alias('--max-num-batched-tokens <n>', integerOption(1, 65_536)))
    .addOption(
      new Option('--capacity-policy <name>', 'when a waiting sequence may start')
        .choices(capacityPolicyNames)
        .default('guaranteed_no_evict'),
    )
    .option('--no-prefix-reuse', 'compute every prompt from its start')
    .option('--kv-block-size <n>', kvBlock, integerOption(1, 65_536))
    .option('--kv-host-cache-size <size>', kvHost, sizeOption)
    .option('--output-memory <size>', outputMemory, sizeOption)
    .option('--steps-in-flight <n>', inFlight, integerOption(1, 16), 2);
  addSpeculationOptions(command);
  addRankOptions(command);
}

function addRankOptions(command: Command): void {
  const count = integerOption(1, ranksMax);
  const tensor = 'ranks (processes) that share every layer (default: as a given engine is divided, else 1)';
  const pipeline =
    'stages that the layers are divided into, in processes one after the other (default: likewise)';
  const world = 'ranks on several hosts: how many in all; this host runs one, --rank';
  command
    .option('--tensor-parallel <n>', tensor, count)
    .option('--pipeline-parallel <n>', pipeline, count)
    .option('--world-size <n>', world, count)
    .option(
      '--rank <n>',
      "this host's rank; 0 serves, the others compute for it",
      integerOption(0, ranksMax - 1),
    )
    .option('--leader <host:port>', 'where rank 0 listens for the other ranks');
}

function addOperationOptions(command: Command): Command {
  const requestTimeout = 'a request that takes longer is ended; 0 means never';
  const drain = 'how long running requests may finish after Ctrl-C';
  const restarts = 'quick restarts of an engine without a healthy minute between; then one every 10 s';
  const stepTimeout = 'an engine silent for so long in a step is restarted';
  const selfTest = `once up, ask this over HTTP and print the streamed answer (default: "${selfTestPrompt}")`;
  return command
    .option('--request-timeout <seconds>', requestTimeout, numberOption(0, 86_400), requestTimeoutMs / 1000)
    .option('--drain-seconds <n>', drain, numberOption(0, 86_400), 30)
    .option('--step-timeout <seconds>', stepTimeout, numberOption(1, 86_400), 120)
    .option('--restarts-in-a-row <n>', restarts, integerOption(0, 1e9), restartsInARowMax)
    .addOption(
      new Option(
        '--log-level <level>',
        'one line a request at info (default: NEREID_LOG_LEVEL, else info)',
      ).choices(logLevels),
    )
    .addOption(
      new Option(
        '--log-format <format>',
        'human or json (default: human on a terminal, json elsewhere)',
      ).choices(['human', 'json']),
    )
    .option('--self-test [prompt]', selfTest);
}

/** Options that the command line calls by other names. */
const flagNames: Readonly<Record<string, string>> = {
  kvHostCacheBytes: 'kvHostCacheSize',
  rankMax: 'maxLoraRank',
  hostBytesMax: 'loraHostCacheSize',
  outputBytesMax: 'outputMemory',
};

/** The file's settings, under what the command line says itself. @throws CliError BRITON_CONFIG_INVALID */
async function withBritonConfig(options: ServeOptions, command: Command): Promise<ServeOptions> {
  const { readBritonConfig } = await import('./serving/briton-config.ts');
  const { options: read, adapters, notes } = readBritonConfig(String(command.opts().britonConfig));
  for (const note of notes) process.stderr.write(`nereid: --briton-config: ${note}\n`);
  const isSaid = (name: string): boolean =>
    name === 'models'
      ? command.args.length > 0
      : command.getOptionValueSource(flagNames[name] ?? name) === 'cli';
  const said = <T extends object>(from: T): Partial<T> =>
    Object.fromEntries(Object.entries(from).filter(([name]) => !isSaid(name))) as Partial<T>;
  const settings = { ...options.adapters.settings, ...said(adapters) };
  return { ...options, adapters: { ...options.adapters, settings }, ...said(read) };
}

/** What was said under another name. */
function aliased(flags: Record<string, unknown>): Partial<ServeOptions> {
  const given = {
    httpPort: flags.port,
    contextLength: flags.maxModelLen,
    maxSequences: flags.maxNumSeqs,
    maxBatchTokens: flags.maxNumBatchedTokens,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function toOptions(models: string[], flags: Record<string, unknown>): ServeOptions {
  const {
    deviceOption,
    apiKey,
    kvCacheSize,
    kvHostCacheSize,
    outputMemory,
    stepTimeout,
    requestTimeout,
    selfTest,
    ...same
  } = flags;
  const answers = flags as unknown as AnswerOptions;
  const repository = repositoryOptions(flags as unknown as RepositoryFlags);
  const { routing, streamInterval } = flags as unknown as TrafficOptions;
  return {
    ...(same as unknown as ServeOptions),
    models: models.length > 0 || repository ? models : ['default'],
    logLevel: (flags.logLevel as string | undefined) ?? logLevelFrom(process.env),
    repository,
    kserve: kserveOptions(flags as unknown as RepositoryFlags),
    ...aliased(flags),
    answers: {
      toolCallParser: answers.toolCallParser,
      reasoningParser: answers.reasoningParser,
      pooling: answers.pooling,
      trustRequestChatTemplate: answers.trustRequestChatTemplate,
      allowLoraUpdates: allowsLoraUpdates(flags, process.env),
    },
    traffic: { routing, streamInterval },
    adapters: adapterOptions(flags),
    deviceOptions: deviceOption as Record<string, string>,
    security: securityOf(flags),
    kvCacheBytes: kvCacheSize as number | undefined,
    kvHostCacheBytes: kvHostCacheSize as number | undefined,
    outputBytesMax: outputMemory as number | undefined,
    stepTimeoutSeconds: stepTimeout as number,
    requestTimeoutSeconds: requestTimeout as number,
    speculation: speculationChoice(flags),
    selfTest: selfTest === true ? selfTestPrompt : (selfTest as string | undefined),
  };
}

/** As commander has them. */
interface RepositoryFlags {
  modelRepository: string[];
  modelControlMode: ModelControlMode;
  loadModel: string[];
  repositoryPollSecs: number;
  strictReadiness: string;
  exitOnError: string;
  disableAutoCompleteConfig: boolean;
  id: string;
  httpMaxInputSize: number;
  httpRestrictedApi: Restriction[];
  grpcRestrictedProtocol: Restriction[];
}

function repositoryOptions(flags: RepositoryFlags): RepositoryServeOptions | undefined {
  if (flags.modelRepository.length === 0) return undefined;
  return {
    folders: flags.modelRepository,
    controlMode: flags.modelControlMode,
    loadModels: flags.loadModel,
    pollSeconds: flags.repositoryPollSecs,
    strictReadiness: flags.strictReadiness === 'true',
    exitOnError: flags.exitOnError === 'true',
    autoComplete: !flags.disableAutoCompleteConfig,
  };
}

function kserveOptions(flags: RepositoryFlags): KserveOptions {
  return {
    httpInputBytesMax: flags.httpMaxInputSize,
    serverId: flags.id,
    httpRestrictions: flags.httpRestrictedApi,
    grpcRestrictions: flags.grpcRestrictedProtocol,
  };
}
