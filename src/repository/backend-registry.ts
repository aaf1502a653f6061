import { Registry } from '../base/registry.ts';
import type { BackendModule } from './backend.ts';

/** Every backend, by the `backend` of config.pbtxt; `ensemble` is a platform. */
export const backends = new Registry<BackendModule>('backend', {
  ensemble: () => import('./ensemble/backend.ts'),
  identity: () => import('./builtin/identity.ts'),
  repeat: () => import('./builtin/repeat.ts'),
});
