import { readTensor } from '../../checkpoint/tensor-file.ts';
import type { Graph } from '../../graph/graph.ts';
import { sameShape } from '../../graph/rules.ts';
import type { WeightTensor } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { dequantize } from './dequantize.ts';

/** Weights as float32, row-major, by the name that graphs carry. */
export type ReferenceWeights = ReadonlyMap<string, Float32Array>;

/**
 * Reads every weight that `graph` names.
 * @throws DeviceError for one that is missing, of another shape or of a type that is not read
 */
export function loadWeights(graph: Graph, tensors: ReadonlyMap<string, WeightTensor>): ReferenceWeights {
  const weights = new Map<string, Float32Array>();
  for (const node of graph.nodes) {
    if (node.op !== 'weight') continue;
    const { name } = node.attributes;
    const tensor = tensors.get(name);
    if (!tensor)
      throw new DeviceError('DEVICE_WEIGHT_MISSING', `the graph names a weight '${name}'; there is none`);
    if (tensor.dtype !== node.dtype || !sameShape(tensor.shape, node.shape)) {
      const stored = `${tensor.dtype}[${tensor.shape.join(', ')}]`;
      const named = `${node.dtype}[${node.shape.join(', ')}]`;
      throw new DeviceError(
        'DEVICE_WEIGHT_INVALID',
        `weight '${name}' is ${stored}; the graph expects ${named}`,
      );
    }
    weights.set(name, dequantize(tensor.dtype, readTensor(tensor)));
  }
  return weights;
}
