import { openDevice } from '../../src/device/ggml/index.ts';
import type { DType } from '../../src/graph/dtype.ts';
import { conformance } from './conformance.ts';
import { hiddenConformance } from './hidden-conformance.ts';
import { opConformance } from './op-conformance.ts';

conformance('ggml', {
  openDevice: () => openDevice({}),
  matrixType: 'f16',
  logitsTolerance: 5e-3,
  scheduleTolerance: 5e-3,
  kvDtype: 'f16',
});

// ggml multiplies quantized weights by activations rounded to 8 bits, and f16 and bf16 ones by activations of their own type.
const tolerances: Partial<Record<DType, number>> = { f32: 1e-3, f16: 1e-3, bf16: 5e-3 };
opConformance('ggml', {
  openDevice: () => openDevice({}),
  tolerance: (storage) => tolerances[storage] ?? 1e-2,
  kvDtype: 'f16',
});

hiddenConformance('ggml', {
  openDevice: () => openDevice({}),
  matrixType: 'f16',
  kvDtype: 'f16',
  tolerance: 5e-3,
});
