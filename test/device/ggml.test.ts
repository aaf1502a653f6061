import { openDevice } from '../../src/device/ggml/index.ts';
import { conformance } from './conformance.ts';
import { opConformance } from './op-conformance.ts';

/** Inputs of quantized matrices are rounded to 8 bits a block; keys and values are kept as f16; ggml looks GELU up in an f16 table. */
opConformance('ggml', {
  openDevice: () => openDevice({}),
  tolerance: (storage) => (storage === 'f32' ? 1e-3 : 2e-2),
  kvDtype: 'f16',
});

opConformance('ggml without repacking', {
  openDevice: () => openDevice({ repack: 'false' }),
  tolerance: (storage, name) => (storage !== 'f32' ? 2e-2 : /gelu|geglu/.test(name) ? 1e-3 : 1e-4),
  kvDtype: 'f32',
});

conformance('ggml', {
  openDevice: () => openDevice({}),
  matrixType: 'f16',
  logitsTolerance: 5e-3,
  scheduleTolerance: 2e-3,
  kvDtype: 'f16',
});
