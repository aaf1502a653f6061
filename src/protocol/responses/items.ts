import type { ChatMessage } from '../../tokenizer/chat-template.ts';
import { ProtocolError } from '../errors.ts';
import type { InputItem, ResponseRequest } from './requests.ts';

type Parts = string | readonly { text?: string; refusal?: string }[];

function textOf(content: Parts | null | undefined): string {
  if (typeof content === 'string') return content;
  return (content ?? []).map((part) => part.text ?? part.refusal ?? '').join('');
}

/** A request's input as items: a text is a user's message. */
export function inputItems(input: ResponseRequest['input']): readonly InputItem[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  return input as unknown as readonly InputItem[];
}

/**
 * Items as the messages of a chat template: a turn's reasoning, text and calls, which are items of their own here, make one message.
 * @throws ProtocolError PARAMETER_INVALID for arguments that are no JSON
 */
export function chatMessages(items: readonly InputItem[]): ChatMessage[] {
  const messages: ChatMessage[] = [];
  /** The assistant's turn that the next item may belong to. */
  let turn: (ChatMessage & { tool_calls?: object[] }) | undefined;
  const assistant = (): ChatMessage & { tool_calls?: object[] } => {
    if (!turn) {
      turn = { role: 'assistant', content: '' };
      messages.push(turn);
    }
    return turn;
  };
  for (const [index, item] of items.entries()) {
    if (item.type === 'reasoning') {
      turn = undefined;
      assistant().reasoning_content = textOf(item.content?.length ? item.content : item.summary);
    } else if (item.type === 'function_call') {
      const called = { name: item.name, arguments: parsed(item.arguments, index) };
      const owner = assistant();
      owner.tool_calls = [
        ...(owner.tool_calls ?? []),
        { id: item.call_id, type: 'function', function: called },
      ];
    } else if (item.type === 'function_call_output') {
      turn = undefined;
      messages.push({ role: 'tool', tool_call_id: item.call_id, content: textOf(item.output) });
    } else if (item.role === 'assistant') {
      if (turn?.content !== '' || turn.tool_calls) turn = undefined;
      assistant().content = textOf(item.content);
    } else {
      turn = undefined;
      const role = item.role === 'developer' ? 'system' : item.role;
      messages.push({ role, content: textOf(item.content) });
    }
  }
  return messages;
}

function parsed(text: string, index: number): unknown {
  if (text.trim() === '') return {};
  try {
    return JSON.parse(text);
  } catch (cause) {
    const parameter = `input[${index}].arguments`;
    throw new ProtocolError('PARAMETER_INVALID', `${parameter} is not valid JSON`, { parameter, cause });
  }
}
