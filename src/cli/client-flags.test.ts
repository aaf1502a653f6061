import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withDashes } from './client-flags.ts';

test('underscores in names of flags are dashes; values stay', () => {
  assert.deepEqual(
    withDashes([
      'client',
      'gpt',
      '--output_len=10',
      '--tokenizer_dir',
      'my_folder',
      '--text=a_b',
      '-topk',
      '1',
    ]),
    ['client', 'gpt', '--output-len=10', '--tokenizer-dir', 'my_folder', '--text=a_b', '--topk', '1'],
  );
  assert.deepEqual(withDashes(['-t', '--', '-beam', '2']), ['-t', '--', '--beam-width', '2']);
});
