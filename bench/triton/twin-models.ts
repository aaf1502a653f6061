import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** `identity`: its input back. `repeat`: decoupled, a response for each element. The same in JavaScript and in Python. */
const models = {
  identity: {
    more: '',
    node: `export default class Model {
  initialize(context) { this.context = context; }
  execute(requests) {
    return requests.map((request) => {
      const { shape, data } = request.input('IN');
      return { outputs: [{ name: 'OUT', datatype: 'INT32', shape, data }] };
    });
  }
}
`,
    python: `import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor('OUT', pb.get_input_tensor_by_name(r, 'IN').as_numpy())]) for r in requests]
`,
  },
  repeat: {
    more: 'model_transaction_policy { decoupled: true }\n',
    node: `export default class Model {
  initialize(context) { this.context = context; }
  execute(requests) {
    const { tensorOf, valuesOf } = this.context;
    for (const request of requests) {
      for (const value of valuesOf(request.input('IN'), 'INT32'))
        request.send({ outputs: [tensorOf('OUT', 'INT32', [1], Int32Array.of(value))] });
      request.end();
    }
  }
}
`,
    python: `import triton_python_backend_utils as pb
import numpy as np
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for value in pb.get_input_tensor_by_name(request, 'IN').as_numpy().flat:
                sender.send(pb.InferenceResponse([pb.Tensor('OUT', np.array([value], np.int32))]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
`,
  },
} as const;

/** Writes both models into a new folder, for Nereid or for the genuine server; returns it. */
export function writeTwinModels(backend: 'node' | 'python'): string {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-triton-'));
  for (const [name, { more, ...code }] of Object.entries(models)) {
    const version = join(folder, name, '1');
    mkdirSync(version, { recursive: true });
    const tensor = (kind: string, tensorName: string): string =>
      `${kind} { name: "${tensorName}" data_type: TYPE_INT32 dims: [ -1 ] }\n`;
    const head = `name: "${name}"\nbackend: "${backend}"\nmax_batch_size: 0\n`;
    const rest = `instance_group { kind: KIND_CPU }\n${more}`;
    writeFileSync(
      join(folder, name, 'config.pbtxt'),
      head + tensor('input', 'IN') + tensor('output', 'OUT') + rest,
    );
    writeFileSync(join(version, backend === 'node' ? 'model.js' : 'model.py'), code[backend]);
    // A folder without it is CommonJS to Node.
    if (backend === 'node') writeFileSync(join(version, 'package.json'), '{"type":"module"}');
  }
  return folder;
}
