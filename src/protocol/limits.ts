/** The limits that network protocols add to those of `base/limits.ts`. Options of a server may lower or raise most of them. */

/**
 * Open client sockets of one HTTP server, and of one address. One more makes the one leave that has waited longest without a whole
 * request.
 */
export const socketsMax = 20_000;
export const socketsPerAddressMax = 10_000;

/**
 * Connections that wait for being accepted; the system's own limit (`net.core.somaxconn`, usually 4,096) may be lower. Node's usual 511
 * is less than clients that start together bring while the event loop is busy: the system then drops their first packets without a
 * word, which come again after 1, 3 and 7 seconds.
 */
export const listenBacklog = 4_096;

/** Requests on one connection whose answers are not sent (HTTP/1.1 pipelining); one more is refused. */
export const pipelinedRequestsMax = 64;

/** How long a client that was hung up on may take to notice, before its socket is destroyed. */
export const lingerMs = 1_000;

/**
 * Bytes of answers that clients have not read, over all of a process's connections and protocols: beyond it those are cut off that have
 * stood still the longest. One that reads nothing for {@link answerStallTimeoutMs} is cut off in any case.
 */
export const unreadAnswerBytesMax = 128 * 1024 * 1024;
export const answerStallTimeoutMs = 30_000;

/** One answer that is not streamed. Larger ones than {@link answerPieceBytes} are handed to the socket in such pieces. */
export const answerBytesMax = 64 * 1024 * 1024;
export const answerPieceBytes = 64 * 1024;

/** Bytes of request bodies that are arriving, over all connections; how long one may bring nothing. */
export const uploadBytesMax = 128 * 1024 * 1024;
export const uploadStallTimeoutMs = 30_000;

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
 * Log-probabilities (chosen and top ones, of prompts too) gathered for one answer that is not streamed: about 400 bytes and 1 µs each
 * while it is put into JSON, in one go.
 */
export const gatheredLogprobsMax = 131_072;

/** What a gathered token, its text and each of its log-probabilities keep of memory until the answer is sent; and a value of an embedding. */
export const gatheredBytes = { token: 24, logprob: 48, embedded: 13 } as const;

/** Texts of one embeddings request: OpenAI's own limit. */
export const embeddingInputsMax = 2_048;

/** Messages (OpenAI's own limit) and tools of one chat. */
export const chatMessagesMax = 2_048;
export const chatToolsMax = 512;

/** Nesting of arrays and objects in a JSON body: templates and serializers recurse over what a client sends. */
export const jsonDepthMax = 100;

/** Values in a JSON body, token ids left out: several times what the longest chats and largest tool lists have. */
export const jsonNodesMax = 262_144;

/** Fields of all objects in a JSON body together: several times what the largest tool lists have. */
export const jsonFieldsMax = 32_768;

/** Values in a JSON body, token ids and tensor elements included: parsing a million takes about 50 ms. */
export const jsonValuesMax = 1_048_576;

/** Fields and values of one protobuf message of the token path: a view or a number each, and about 100 ns. */
export const protobufValuesMax = 1_048_576;

/** Bytes of a gRPC request that is no inference; of one that brings a model's files. */
export const grpcAdministrationBytesMax = 1024 * 1024;
export const grpcModelLoadBytesMax = 64 * 1024 * 1024;

/** Tokens of a text that is cut to fit (`truncate_prompt_tokens`), or only counted (`/tokenize`): no context is longer. */
export const truncatedTokensMax = 2_097_152;

/** Token ids in one answer of `/tokenize`. */
export const listedTokensMax = 262_144;

/** Characters of one bad word. */
export const badWordLengthMax = 256;

/** Characters of short texts (`reasoning_effort`). */
export const shortTextLengthMax = 1024;

/** What a client is told to wait before it tries again after 429 or 503. */
export const retryAfterSeconds = 1;

/** Bytes of one gRPC message that a client sends: tritonserver's limit, which is protobuf's own. Less where memory is small. */
export const grpcReceivedMessageBytesMax = 2 ** 31 - 1;

/** What a packed gRPC message may come to. */
export const grpcUnpackedMessageBytesMax = 64 * 1024 * 1024;

/**
 * Packed bodies and messages that are unpacked at a time, the others wait: each may come to a thousand times its size. Those that can come
 * to 8 MiB at most have places of their own.
 */
export const unpackingMax = { little: 8, much: 2 } as const;

/** Bytes of a service's name that gRPC's health service is asked about. */
export const healthServiceNameBytesMax = 1024;

/** Calls at a time on one gRPC connection; clients wait with the next one. */
export const grpcStreamsPerConnectionMax = 16_384;

/** How often an idle gRPC connection is pinged, and how long the answer may take; tritonserver's defaults. */
export const grpcKeepaliveTimeMs = 7_200_000;
export const grpcKeepaliveTimeoutMs = 20_000;
