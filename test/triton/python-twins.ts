import type { TestModel } from './models.ts';

/** `1/model.py` that does on a genuine tritonserver what a test model does here. */
export function pythonTwin({ name, inputs, outputs }: TestModel): string {
  if (name === 'fail') return failing;
  if (name === 'repeat') return repeating;
  const pairs = inputs.map(([input], index) => `('${input}', '${outputs[index]?.[0]}')`).join(', ');
  return `import triton_python_backend_utils as pb
PAIRS = [${pairs}]
class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            outputs = []
            for given, name in PAIRS:
                tensor = pb.get_input_tensor_by_name(request, given)
                if tensor is not None and name in request.requested_output_names():
                    outputs.append(pb.Tensor(name, tensor.as_numpy()))
            answers.append(pb.InferenceResponse(outputs))
        return answers
`;
}

const failing = `import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse(error=pb.TritonError('it failed')) for request in requests]
`;

const repeating = `import triton_python_backend_utils as pb
import numpy as np
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            values = pb.get_input_tensor_by_name(request, 'IN').as_numpy()
            for index, value in enumerate(values.flat):
                if value == -1:
                    sender.send(pb.InferenceResponse(error=pb.TritonError('minus one')))
                    continue
                out = pb.Tensor('OUT', np.array([value], np.int32))
                sender.send(pb.InferenceResponse([out, pb.Tensor('IDX', np.array([index], np.uint32))]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
`;
