import { test } from 'node:test';
import { openDevice } from '../../src/device/cuda/index.ts';
import { adapterConformance } from './adapter-conformance.ts';
import { conformance } from './conformance.ts';
import { missingGpu } from './cuda-gpu.ts';
import { hiddenConformance } from './hidden-conformance.ts';
import { modelConformance } from './model-conformance.ts';
import { opConformance } from './op-conformance.ts';
import { samplingConformance } from './sampling-conformance.ts';

const missing = missingGpu();
if (missing) test('the cuda device against the reference', { skip: missing }, () => undefined);
else {
  conformance('cuda', {
    openDevice: () => openDevice({}),
    matrixType: 'bf16',
    logitsTolerance: 2e-2,
    scheduleTolerance: 2e-2,
    kvDtype: 'f16',
    blockPositions: [4, 16],
  });
  // What is stored between ops decides: 24, 11 or 8 bits of mantissa.
  const tolerances = { f32: 1e-5, f16: 2e-3, bf16: 1e-2 };
  for (const [activations, tolerance] of Object.entries(tolerances)) {
    opConformance(`cuda (${activations})`, {
      openDevice: () => openDevice({ activations }),
      tolerance: () => tolerance,
      kvDtype: 'f32',
    });
  }
  // Activations of 4 bits of mantissa: what is left of an op where the reference has float32.
  opConformance('cuda (fp8)', {
    openDevice: () => openDevice({ activations: 'bf16', matrices: 'fp8' }),
    tolerance: () => 6e-2,
    kvDtype: 'f32',
  });
  const has16Bits = (type: string) => type !== 'f32';
  // Few rows keep 16 bits, and these models' matrices lose nothing in 8: only products of many rows have less.
  const fewRows = 4;
  modelConformance('cuda (fp8)', {
    openDevice: () => openDevice({ matrices: 'fp8' }),
    tolerance: (_, freshRows = Number.POSITIVE_INFINITY) => (freshRows <= fewRows ? 2e-2 : 1.5e-1),
    kvDtype: 'f32',
    takes: (_, type) => has16Bits(type),
  });
  // The reference rounds keys and values alike; a few fall to the other side.
  for (const [matrices, tolerance] of [
    ['auto', 5e-2],
    ['fp8', 2e-1],
  ] as const) {
    modelConformance(`cuda (fp8 KV, matrices ${matrices})`, {
      openDevice: () => openDevice({ matrices }),
      tolerance: () => tolerance,
      kvDtype: 'fp8',
      takes: ({ headDimension }, type) => has16Bits(type) && headDimension % 64 === 0,
    });
  }
  for (const [title, own, tolerance] of [
    ['bf16', {}, 2e-2],
    ['f32', { activations: 'f32' }, 1e-5],
    ['fp8', { matrices: 'fp8' }, 1.5e-1],
  ] as const) {
    adapterConformance(`cuda (${title})`, { openDevice: () => openDevice(own), tolerance, kvDtype: 'f32' });
  }
  hiddenConformance('cuda', {
    openDevice: () => openDevice({}),
    matrixType: 'f32',
    kvDtype: 'f32',
    tolerance: 1e-4,
  });
  samplingConformance('cuda', () => openDevice({ activations: 'f32' }));
  modelConformance('cuda', {
    openDevice: () => openDevice({}),
    tolerance: (matrixType) => (matrixType === 'f32' ? 1e-5 : matrixType === 'f16' ? 5e-3 : 2e-2),
    kvDtype: 'f32',
  });
}
