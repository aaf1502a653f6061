import type { RopeAttributes } from '../../graph/ops.ts';
import type { Ggml } from './ffi.ts';
import type { Context, Tensor } from './handles.ts';
import { contiguous } from './lower-shape.ts';
import type { LoweringState, NodeOf } from './lowering-state.ts';

type ElementwiseOp =
  | 'rmsNorm'
  | 'layerNorm'
  | 'add'
  | 'multiply'
  | 'scale'
  | 'silu'
  | 'gelu'
  | 'relu'
  | 'tanh'
  | 'sigmoid'
  | 'swiglu'
  | 'geglu'
  | 'softmax'
  | 'rope';

const ropeModes = { interleaved: 0, half: 2 } as const;

const gelus = { tanh: 'ggml_gelu', erf: 'ggml_gelu_erf', quick: 'ggml_gelu_quick' } as const;
const geglus = {
  tanh: 'ggml_geglu_split',
  erf: 'ggml_geglu_erf_split',
  quick: 'ggml_geglu_quick_split',
} as const;

/** Ops that work row by row on float32. */
export function lowerElementwise(state: LoweringState, node: NodeOf<ElementwiseOp>): Tensor {
  const { ggml, context } = state;
  const x = state.input(node, 0);
  switch (node.op) {
    case 'rmsNorm':
      // ggml fuses these two when they follow each other.
      return ggml.ggml_mul(
        context,
        ggml.ggml_rms_norm(context, x, node.attributes.epsilon),
        state.input(node, 1),
      );
    case 'layerNorm': {
      const scaled = ggml.ggml_mul(
        context,
        ggml.ggml_norm(context, x, node.attributes.epsilon),
        state.input(node, 1),
      );
      const bias = state.optionalInput(node, 2);
      return bias ? ggml.ggml_add(context, scaled, bias) : scaled;
    }
    case 'add':
      return ggml.ggml_add(context, x, state.input(node, 1));
    case 'multiply':
      return ggml.ggml_mul(context, x, state.input(node, 1));
    case 'swiglu':
      return ggml.ggml_swiglu_split(context, x, state.input(node, 1));
    case 'geglu':
      return ggml[geglus[node.attributes.approximation]](context, x, state.input(node, 1));
    case 'rope':
      return lowerRope(state, node, x);
    default:
      return lowerUnary(ggml, context, node, contiguous(state, x));
  }
}

function lowerUnary(
  ggml: Ggml,
  context: Context,
  node: NodeOf<'scale' | 'silu' | 'gelu' | 'relu' | 'tanh' | 'sigmoid' | 'softmax'>,
  x: Tensor,
): Tensor {
  switch (node.op) {
    case 'scale':
      return ggml.ggml_scale(context, x, node.attributes.factor);
    case 'silu':
      return ggml.ggml_silu(context, x);
    case 'gelu':
      return ggml[gelus[node.attributes.approximation]](context, x);
    case 'relu':
      return ggml.ggml_relu(context, x);
    case 'tanh':
      return ggml.ggml_tanh(context, x);
    case 'sigmoid':
      return ggml.ggml_sigmoid(context, x);
    case 'softmax':
      return ggml.ggml_soft_max(context, x);
  }
}

function lowerRope(state: LoweringState, node: NodeOf<'rope'>, x: Tensor): Tensor {
  const { ggml, context, fused } = state;
  const attributes: RopeAttributes = node.attributes;
  const { yarn } = attributes;
  const turn = fused.inPlaceRopes.has(node.id) ? ggml.ggml_rope_ext_inplace : ggml.ggml_rope_ext;
  return turn(
    context,
    x,
    state.input(node, 1),
    state.optionalInput(node, 2),
    attributes.dimensions,
    ropeModes[attributes.mode],
    yarn?.originalContextLength ?? 0,
    attributes.theta,
    attributes.frequencyScale,
    yarn?.extrapolationFactor ?? 0,
    yarn?.attentionFactor ?? 1,
    yarn?.betaFast ?? 0,
    yarn?.betaSlow ?? 0,
  );
}
