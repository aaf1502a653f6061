/** A supervisor with a busy engine, to be killed from outside; reports its engine's process id. */
import { EngineSupervisor } from '../../src/runtime/process/supervisor.ts';
import { greedySampling } from '../../src/runtime/requests/request.ts';

const supervisor = await EngineSupervisor.start({
  name: 'doomed',
  device: 'null',
  deviceOptions: { 'step-ms': '600000' },
  nullModel: { vocabularySize: 10, contextLength: 100 },
  threads: 1,
  slots: 1,
  batchTokensMax: 8,
  kvDtype: 'f16',
  prefixReuse: false,
});
supervisor.client.submit(
  {
    promptTokens: Int32Array.of(1),
    sampling: greedySampling,
    maxTokens: 10,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
  },
  () => {},
);
setTimeout(() => process.send?.(supervisor.pid), 300);
