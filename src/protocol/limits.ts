/** The limits that network protocols add to those of `base/limits.ts`. Options of a server may lower or raise most of them. */

/** Open client sockets of one HTTP server; one more is closed at once by Node. */
export const socketsMax = 20_000;

/** Bytes of an HTTP request's line and headers together (more: 431). */
export const headerBytesMax = 32 * 1024;

/** Time a client has to send its headers, and its whole request. */
export const headersTimeoutMs = 30_000;
export const bodyTimeoutMs = 300_000;

/** Time an idle connection stays open. Longer than most proxies', so that they close first and no request is lost to the race. */
export const keepAliveTimeoutMs = 75_000;

/** Time a request may take from arrival to its last byte; 0 is no limit. */
export const requestTimeoutMs = 0;

/** Prompts in one completions request, and the completions it may ask for in all (prompts × n or best_of). */
export const promptsPerRequestMax = 512;
export const choicesPerRequestMax = 1024;

/**
 * Log-probabilities (chosen and top ones, of prompts too) gathered for one answer that is not streamed: about 200 bytes each while it
 * is put into JSON.
 */
export const gatheredLogprobsMax = 1_048_576;

/** Messages and tools of one chat. */
export const chatMessagesMax = 16_384;
export const chatToolsMax = 512;

/** Nesting of arrays and objects in a JSON body: templates and serializers recurse over what a client sends. */
export const jsonDepthMax = 100;

/** Values in a JSON body, token ids left out: several times what the longest chats and largest tool lists have. */
export const jsonNodesMax = 262_144;

/** Characters of short texts (`reasoning_effort`). */
export const shortTextLengthMax = 1024;

/** What a client is told to wait before it tries again after 429 or 503. */
export const retryAfterSeconds = 1;

/** Bytes of one gRPC message that a client sends: tritonserver's limit, which is protobuf's own. */
export const grpcReceivedMessageBytesMax = 2 ** 31 - 1;

/** Calls at a time on one gRPC connection; clients wait with the next one. */
export const grpcStreamsPerConnectionMax = 16_384;

/** How often an idle gRPC connection is pinged, and how long the answer may take; tritonserver's defaults. */
export const grpcKeepaliveTimeMs = 7_200_000;
export const grpcKeepaliveTimeoutMs = 20_000;
