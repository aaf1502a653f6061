/** Where Briton's clients look for it. */
export const britonPortDefault = 50_051;

/** Tokens to make where the request does not say (as Briton's Python layer has it). */
export const outputTokensDefault = 50;

/** Parts of an answer that its reader may leave unread before it is cut off. */
export const unreadPartsMax = 4096;

/**
 * Streams of one channel; further calls of it wait in the client, as HTTP/2 has it. Clients in Python and C++ keep to the server's
 * number; open several channels for more.
 */
export const streamsPerChannelMax = 1024;
