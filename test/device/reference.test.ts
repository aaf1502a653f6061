import { openDevice } from '../../src/device/reference/index.ts';
import { conformance } from './conformance.ts';
import { hiddenConformance } from './hidden-conformance.ts';
import { opConformance } from './op-conformance.ts';

conformance('reference', {
  openDevice: () => openDevice(),
  matrixType: 'f32',
  logitsTolerance: 1e-4,
  blockPositions: [1, 4, 7],
  scheduleTolerance: 1e-6,
  kvDtype: 'f32',
});

// Against itself, the suite shows that every case runs and that steps do not leak into each other.
opConformance('reference', { openDevice: () => openDevice(), tolerance: () => 0, kvDtype: 'f32' });

hiddenConformance('reference', {
  openDevice: () => openDevice(),
  matrixType: 'f32',
  kvDtype: 'f32',
  tolerance: 1e-4,
});
