/** Names one sequence's place in a KV cache: a slot number, or a block table's number. */
export type KvHandle = number;

/** What a prompt may reuse. */
export interface KvMatch {
  handle: KvHandle;
  /** Positions that are the same, from the first on. */
  length: number;
}

/** Room for a sequence. */
export interface KvReservation {
  handle: KvHandle;
  /** Positions already filled from another sequence. */
  cached: number;
}

/** Where the KV cache's memory is. */
export interface KvUsage {
  /** Promised to sequences in flight. */
  bytesReserved: number;
  /** Held by finished sequences for reuse; given up as soon as a reservation needs them. */
  bytesRetained: number;
  bytesMax: number;
  handlesInUse: number;
  handlesRetained: number;
}

/**
 * The KV cache's interface: what every layout means by it. Keys name what may share a prefix (adapter and salt in one string).
 *
 * | method | slots | blocks |
 * |---|---|---|
 * | `match` | longest common prefix with any slot, live or retained | hash chain of full blocks |
 * | `reserve` | a free slot, room by bytes, prefix copied | blocks by reference count |
 * | `append` | room for more positions than reserved (`max_utilization`) | further blocks |
 * | `commit` | positions were written by a step and may be matched | a full block gets its hash |
 * | `truncate` | forget the last positions (rejected draft tokens) | the same |
 * | `fork` | `reserve` with a named source: rows are copied | shared blocks, copy on write |
 * | `pin` | never evict | the same |
 * | `release` | free, or retain for reuse | reference counts down |
 * | `usage` | bytes | bytes |
 *
 * `reorder` (beams), `export` and `import` (disaggregation) need what no device offers for slots yet and so are no part of it.
 */
export interface KvCache {
  /** The longest reusable prefix of `tokens`, at most `lengthMax`; absent when none is worth its copy. */
  match(key: string, tokens: Int32Array, lengthMax: number): KvMatch | undefined;
  /** Whether {@link reserve} would succeed, given what is in flight and evicting all that is only retained. */
  canReserve(positions: number): boolean;
  /** Takes room for `positions`, reusing `match` if given. The caller asked {@link canReserve} first. */
  reserve(key: string, positions: number, match?: KvMatch): KvReservation;
  /** Makes the reservation at least `positions` long; false (and no change) if the bytes are not there. */
  append(handle: KvHandle, positions: number): boolean;
  /** The last step wrote `tokens[from, to)` of a sequence right behind what was committed before. */
  commit(handle: KvHandle, tokens: Int32Array): void;
  truncate(handle: KvHandle, length: number): void;
  pin(handle: KvHandle): void;
  unpin(handle: KvHandle): void;
  /** Ends the reservation. `retain` keeps the committed positions for reuse until their bytes are needed; so does a pin. */
  release(handle: KvHandle, retain: boolean): void;
  usage(): KvUsage;
}
