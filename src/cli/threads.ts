/** Threads that one build, engine or generation may ask for: what ggml's own pool takes. */
export const threadsMax = 512;
