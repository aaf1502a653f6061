/**
 * Pointers into ggml, as koffi passes them (bigints), branded so that a tensor is never passed for a buffer. No handle may be used after
 * what it points to was freed: ggml checks nothing.
 */
declare const brand: unique symbol;
type Handle<Name extends string> = bigint & { readonly [brand]: Name };

/** An address of plain memory. */
export type Address = bigint;
/** `struct ggml_context *`: the arena that tensor and graph headers lie in. */
export type Context = Handle<'ggml_context'>;
/** `struct ggml_tensor *` */
export type Tensor = Handle<'ggml_tensor'>;
/** `struct ggml_cgraph *` */
export type ComputeGraph = Handle<'ggml_cgraph'>;
/** `ggml_backend_t` */
export type Backend = Handle<'ggml_backend'>;
/** `ggml_backend_dev_t` */
export type BackendDevice = Handle<'ggml_backend_device'>;
/** `ggml_backend_reg_t` */
export type BackendRegistry = Handle<'ggml_backend_reg'>;
/** `ggml_backend_buffer_t` */
export type Buffer = Handle<'ggml_backend_buffer'>;
/** `ggml_backend_buffer_type_t` */
export type BufferType = Handle<'ggml_backend_buffer_type'>;
/** `ggml_gallocr_t`: lays a graph's intermediate tensors out in one buffer. */
export type GraphAllocator = Handle<'ggml_gallocr'>;
/** `ggml_threadpool_t` */
export type Threadpool = Handle<'ggml_threadpool'>;
