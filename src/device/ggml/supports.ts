import { type DType, dtypes } from '../../graph/dtype.ts';
import type { BufferType } from './handles.ts';
import type { GgmlLibrary } from './library.ts';
import { setMember, tensorOffsets } from './tensor-struct.ts';

/** Rows of the trial product: a large step. */
const trialRows = 512;

/**
 * Asks ggml whether it multiplies float32 inputs with [rows, columns] matrices of this type, kept in the given buffer type or, without one,
 * in plain memory. Nothing is computed: the weight gets an empty buffer of that type, as llama.cpp does it.
 */
export function supportsProduct(
  library: GgmlLibrary,
  dtype: DType,
  columns: number,
  rows: number,
  bufferType?: BufferType,
): boolean {
  const { ggml, cpu } = library;
  const overhead = ggml.ggml_tensor_overhead();
  const context = ggml.ggml_init({ mem_size: 8 * overhead, mem_buffer: null, no_alloc: true });
  const buffer = bufferType && ggml.ggml_backend_buft_alloc_buffer(bufferType, 0);
  try {
    const weight = ggml.ggml_new_tensor_2d(context, dtypes[dtype].ggmlId, columns, rows);
    const product = ggml.ggml_mul_mat(
      context,
      weight,
      ggml.ggml_new_tensor_2d(context, 0, columns, trialRows),
    );
    if (buffer) setMember(weight, tensorOffsets.buffer, buffer);
    return ggml.ggml_backend_dev_supports_op(cpu, product);
  } finally {
    if (buffer) ggml.ggml_backend_buffer_free(buffer);
    ggml.ggml_free(context);
  }
}
