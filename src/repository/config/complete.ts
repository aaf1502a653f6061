import { modelConfigSchema } from './schema.ts';
import type { InstanceGroup, ModelConfig } from './types.ts';

const optimization = {
  priority: 'PRIORITY_DEFAULT',
  input_pinned_memory: { enable: true },
  output_pinned_memory: { enable: true },
  gather_kernel_buffer_threshold: 0,
  eager_batching: false,
};

/**
 * Fills in what Triton normalizes in every configuration: the folder's name, the version policy, instances, batching defaults.
 * May change `config`.
 */
export function completeConfig(config: ModelConfig, folderName: string): ModelConfig {
  if (config.name === '') config.name = folderName;
  if (!config.version_policy?.all && !config.version_policy?.specific && !config.version_policy?.latest) {
    config.version_policy = { latest: { num_versions: 1 } };
  }
  // Ensembles have no instances, and nothing to optimize.
  if (config.platform !== 'ensemble') {
    config.optimization = { ...optimization, ...config.optimization };
    config.instance_group = instanceGroups(config);
  }
  const batching = config.dynamic_batching;
  if (batching && batching.preferred_batch_size.length === 0 && config.max_batch_size > 0) {
    batching.preferred_batch_size = [config.max_batch_size];
  }
  return inSchemaOrder(config);
}

/** As protobuf prints it, wherever a field came from. */
function inSchemaOrder(config: ModelConfig): ModelConfig {
  const order = Object.keys(modelConfigSchema.fields);
  const entries = Object.entries(config).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  return Object.fromEntries(entries) as unknown as ModelConfig;
}

/** One CPU instance where the file names none (this server's engines take what the machine has). */
function instanceGroups({ name, instance_group: groups }: ModelConfig): InstanceGroup[] {
  const empty: InstanceGroup = {
    name: '',
    kind: 'KIND_CPU',
    count: 1,
    gpus: [],
    secondary_devices: [],
    profile: [],
    passive: false,
    host_policy: '',
  };
  if (groups.length === 0) return [{ ...empty, name: `${name}_0` }];
  return groups.map((group, index) => ({
    ...group,
    name: group.name === '' ? `${name}_${index}` : group.name,
    kind: group.kind === 'KIND_AUTO' ? 'KIND_CPU' : group.kind,
    // As tritonserver takes what is no number of instances.
    count: Math.max(1, group.count),
  }));
}

/** Instances over all groups. */
export function instanceCount(config: ModelConfig): number {
  return config.instance_group.reduce((sum, group) => sum + (group.passive ? 0 : group.count), 0);
}

/** A parameter's text; undefined where it is absent, empty, or a `${placeholder}` that nobody filled. */
export function parameterText(config: ModelConfig, key: string): string | undefined {
  const text = Object.hasOwn(config.parameters, key) ? config.parameters[key]?.string_value : undefined;
  return text === undefined || text === '' || /^\$\{[^}]*\}$/.test(text) ? undefined : text;
}

const truths: Readonly<Record<string, boolean>> = { true: true, '1': true, false: false, '0': false };

/** A parameter as TensorRT-LLM reads booleans (True, true, TRUE, 1, …); undefined for anything else. */
export function parameterTruth(config: ModelConfig, key: string): boolean | undefined {
  return truths[parameterText(config, key)?.toLowerCase() ?? ''];
}
