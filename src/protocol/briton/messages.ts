import type { MessageCodec } from '../proto-messages.ts';
import { ProtoReader, ProtoWriter } from '../protobuf.ts';

/** Briton's `InferenceRequest`, by the names of the .proto; absent fields are undefined. */
export interface InferenceRequest {
  request_id: number | bigint;
  input_text: string;
  input_ids: number[];
  request_output_len?: number;
  end_id?: number;
  pad_id?: number;
  beam_width?: number;
  temperature?: number;
  runtime_top_k?: number;
  runtime_top_p?: number;
  len_penalty?: number;
  repetition_penalty?: number;
  presence_penalty?: number;
  bad_words: string[];
  stop_words: string[];
  lora_task_id?: number | bigint;
  lora_weights?: BritonTensor;
  lora_config?: BritonTensor;
  random_seed?: number | bigint;
  output_schema_hash?: string;
  tools_id?: number;
  force_tools?: boolean;
  guided_decoding_params?: GuidedDecodingParams;
}

/** Briton's `GuidedDecodingParams`. */
export interface GuidedDecodingParams {
  /** A number of its `GuideType`. */
  guide_type: number;
  guide: string;
}

/** Briton's `Tensor`. */
export interface BritonTensor {
  shape: number[];
  /** A number of its `DataType`. */
  dtype: number;
  data: Buffer;
}

/** Why an answer ended, by number; 0 while it goes on. */
export const finishReasons = { end_id: 1, stop_words: 2, length: 3 } as const;

/** Briton's `InferenceAnswerPart`. */
export interface InferenceAnswerPart {
  request_id: number | bigint;
  output_text: string;
  output_ids: readonly number[];
  finish_reason: number;
}

/** One field's value off the wire; for a repeated one, with what came before. */
type ReadField = (reader: ProtoReader, before: unknown) => unknown;

const unsigned: ReadField = (reader) => Number(reader.uint64());
const int64: ReadField = (reader) => reader.int64();
const text: ReadField = (reader) => reader.string();
const float: ReadField = (reader) => {
  let value = 0;
  reader.floats(4, (read) => {
    value = read;
  });
  return value;
};
const int32s: ReadField = (reader, before) => {
  const values = before as number[];
  reader.varints((value) => values.push(Number(BigInt.asIntN(32, value))));
  return values;
};
const texts: ReadField = (reader, before) => {
  const values = before as string[];
  values.push(reader.string());
  return values;
};

const tensor: ReadField = (reader) => {
  const read: BritonTensor = { shape: [], dtype: 0, data: Buffer.alloc(0) };
  const fields = new ProtoReader(reader.bytes());
  for (let number = fields.field(); number !== 0; number = fields.field()) {
    if (number === 1) read.shape = shapeOf(fields.bytes());
    else if (number === 2) read.dtype = Number(fields.uint64());
    else if (number === 3) read.data = Buffer.from(fields.bytes());
    else fields.skip();
  }
  return read;
};

function shapeOf(message: Buffer): number[] {
  const shape: number[] = [];
  const fields = new ProtoReader(message);
  for (let number = fields.field(); number !== 0; number = fields.field()) {
    if (number === 1) fields.varints((value) => shape.push(Number(value)));
    else fields.skip();
  }
  return shape;
}

function guidedDecoding(reader: ProtoReader): GuidedDecodingParams {
  const read: GuidedDecodingParams = { guide_type: 0, guide: '' };
  const fields = new ProtoReader(reader.bytes());
  for (let number = fields.field(); number !== 0; number = fields.field()) {
    if (number === 1) read.guide_type = Number(fields.uint64());
    else if (number === 2) read.guide = fields.string();
    else fields.skip();
  }
  return read;
}

/** The fields by their numbers. */
const fields: Record<number, readonly [name: keyof InferenceRequest, read: ReadField]> = {
  1: ['request_id', int64],
  2: ['input_text', text],
  3: ['input_ids', int32s],
  5: ['request_output_len', unsigned],
  6: ['end_id', unsigned],
  7: ['pad_id', unsigned],
  10: ['beam_width', unsigned],
  11: ['temperature', float],
  12: ['runtime_top_k', unsigned],
  13: ['runtime_top_p', float],
  14: ['len_penalty', float],
  15: ['repetition_penalty', float],
  16: ['presence_penalty', float],
  17: ['bad_words', texts],
  18: ['stop_words', texts],
  19: ['lora_task_id', (reader) => reader.uint64()],
  20: ['lora_weights', tensor],
  21: ['lora_config', tensor],
  22: ['random_seed', int64],
  23: ['output_schema_hash', text],
  24: ['tools_id', unsigned],
  25: ['force_tools', (reader) => reader.bool()],
  26: ['guided_decoding_params', guidedDecoding],
};

/** Requests: only read here. */
export const requestCodec: MessageCodec<InferenceRequest> = {
  encode: () => {
    throw new TypeError('a server sends no requests');
  },
  decode: (message) => {
    const request: Partial<Record<keyof InferenceRequest, unknown>> = {
      request_id: 0,
      input_text: '',
      input_ids: [],
      bad_words: [],
      stop_words: [],
    };
    const reader = new ProtoReader(message);
    for (let number = reader.field(); number !== 0; number = reader.field()) {
      const field = fields[number];
      if (field) request[field[0]] = field[1](reader, request[field[0]]);
      else reader.skip();
    }
    return request as unknown as InferenceRequest;
  },
};

const writer = new ProtoWriter();

/** A part of an answer as it goes on the wire: once a token and stream. */
export function encodeAnswerPart(part: InferenceAnswerPart): Buffer {
  if (part.request_id !== 0) writer.integer(1, part.request_id);
  writer.string(2, part.output_text);
  writer.packedIntegers(3, part.output_ids);
  if (part.finish_reason !== 0) writer.integer(26, part.finish_reason);
  return writer.take();
}
