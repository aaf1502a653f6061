import { openDevice } from '../../src/device/reference/index.ts';
import { conformance } from './conformance.ts';

conformance('reference', {
  openDevice: () => openDevice(),
  matrixType: 'f32',
  logitsTolerance: 1e-4,
  scheduleTolerance: 1e-6,
  kvDtype: 'f32',
});
