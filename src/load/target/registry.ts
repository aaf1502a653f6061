import { Registry } from '../../base/registry.ts';
import type { Target, TargetSpec } from './target.ts';

/** A protocol that load can be made in. */
export interface TargetRow {
  /** What the URL is when none is given: the usual port of such servers. */
  usualUrl: string;
  /** Whether it can be sent token ids, and whether it can be sent text. */
  sendsTokens: boolean;
  sendsText: boolean;
  open(spec: TargetSpec): Target | Promise<Target>;
}

/** Every target, by the name that `--backend` and `--target` take. */
export const targets = new Registry<TargetRow>('target', {
  'openai-chat': async () => {
    const { OpenAiTarget } = await import('./openai.ts');
    const open = (spec: TargetSpec): Target => new OpenAiTarget('chat', spec);
    return { usualUrl: 'http://127.0.0.1:8000', sendsTokens: false, sendsText: true, open };
  },
  openai: async () => {
    const { OpenAiTarget } = await import('./openai.ts');
    const open = (spec: TargetSpec): Target => new OpenAiTarget('completions', spec);
    return { usualUrl: 'http://127.0.0.1:8000', sendsTokens: true, sendsText: true, open };
  },
  'triton-generate': async () => {
    const { TritonGenerateTarget } = await import('./triton-generate.ts');
    const open = (spec: TargetSpec): Target => new TritonGenerateTarget(spec);
    return { usualUrl: 'http://127.0.0.1:8000', sendsTokens: false, sendsText: true, open };
  },
  'kserve-http': async () => {
    const { KserveHttpTarget } = await import('./kserve-http.ts');
    const open = (spec: TargetSpec): Target => new KserveHttpTarget(spec);
    return { usualUrl: 'http://127.0.0.1:8000', sendsTokens: true, sendsText: true, open };
  },
  'kserve-grpc': async () => {
    const { KserveGrpcTarget } = await import('./kserve-grpc.ts');
    const open = (spec: TargetSpec): Target => new KserveGrpcTarget(spec);
    return { usualUrl: '127.0.0.1:8001', sendsTokens: true, sendsText: true, open };
  },
  briton: async () => {
    const { BritonTarget } = await import('./briton.ts');
    const open = async (spec: TargetSpec): Promise<Target> => {
      if (spec.detokenizerFolder === undefined) return new BritonTarget(spec);
      const { openTokenizer } = await import('../../tokenizer/open.ts');
      return new BritonTarget(spec, await openTokenizer(spec.detokenizerFolder));
    };
    return { usualUrl: '127.0.0.1:50051', sendsTokens: true, sendsText: true, open };
  },
});
