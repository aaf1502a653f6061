/**
 * The limits that more than one layer must agree on. A limit that one layer owns stands in that layer, named the same way:
 * full nouns, unit last, `Max`.
 */

/** Longest prompt text accepted over a protocol, before tokenization. */
export const promptBytesMax = 16 * 1024 * 1024;

/** Largest HTTP body. */
export const bodyBytesMax = 32 * 1024 * 1024;

/** Requests that may wait in an engine's queue; one more is refused as `exhausted` (HTTP 429). */
export const queuedRequestsMax = 16_384;

/** Bytes a slow reader may leave unread in one stream before its request is cancelled. */
export const streamBufferBytesMax = 1024 * 1024;

/** Parallel completions of one request (OpenAI's `n`). */
export const sequencesPerRequestMax = 128;

/** Top log-probabilities a token (OpenAI allows 20). */
export const logprobsMax = 20;

/** Stop strings of one request, and the length of one. */
export const stopStringsMax = 16;
export const stopStringBytesMax = 1024;
