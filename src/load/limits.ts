/** Requests of one run: each leaves a record of about 100 bytes, and 8 bytes an output part. */
export const requestsMax = 10_000_000;

/** Requests in flight of one run: ephemeral ports of one address end near 28,000. */
export const concurrencyMax = 20_000;

/** Load-generating processes of one run. */
export const workersMax = 64;

/** Bytes of a dataset or arrival-trace file. */
export const datasetBytesMax = 1024 * 1024 * 1024;

/** Pieces of answers that were read and wait to be parsed: some hundred bytes each. */
export const deferredReadsMax = 65_536;

/** Bytes of one line of an event stream, and of a whole answer that does not stream. */
export const answerBytesMax = 64 * 1024 * 1024;

/** Bytes of an error's body that are kept for the report. */
export const errorBytesMax = 4096;

/** Turns of one conversation. */
export const turnsMax = 1000;

/** Tokens that a planned prompt or answer may have. */
export const plannedTokensMax = 2 ** 24;

/** Time a worker process has to say that it is ready, and to hand in its last records after it was told to stop. */
export const workerReadyTimeoutMs = 60_000;
export const workerStopTimeoutMs = 10_000;
