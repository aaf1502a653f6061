import { Registry } from '../base/registry.ts';
import type { BackendModule } from './backend.ts';

/** Every backend, by the `backend` of config.pbtxt; `ensemble` is a platform. */
export const backends = new Registry<BackendModule>('backend', {
  ensemble: () => import('./ensemble/backend.ts'),
  tensorrtllm: () => import('./engine/backend.ts'),
  preprocessing: () => import('./text/preprocessing.ts'),
  postprocessing: () => import('./text/postprocessing.ts'),
  tensorrt_llm_bls: () => import('./text/bls.ts'),
  llmapi: () => import('./llmapi/backend.ts'),
  node: () => import('./node/backend.ts'),
  python: () => import('./python.ts'),
  identity: () => import('./builtin/identity.ts'),
  repeat: () => import('./builtin/repeat.ts'),
});
