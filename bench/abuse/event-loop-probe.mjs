/**
 * Loaded into the server by bench/abuse.ts (`NODE_OPTIONS=--import`): at each SIGUSR2 it writes how long the event loop's steps took since
 * the last one, to the file that NEREID_EVENT_LOOP_FILE names. Plain JavaScript: it runs before any loader. The server's own metric samples
 * every 250 ms, which is too seldom for a percentile of some seconds.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

const resolutionMs = 1;
const file = process.env.NEREID_EVENT_LOOP_FILE;

if (file && isMainThread && process.argv[1]?.endsWith('bin/nereid')) {
  // Engine processes and workers that it starts are not what is measured.
  delete process.env.NODE_OPTIONS;
  delete process.env.NEREID_EVENT_LOOP_FILE;
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  process.on('SIGUSR2', () => {
    const milliseconds = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - resolutionMs);
    const found = {
      samples: histogram.count,
      p99Ms: milliseconds(histogram.percentile(99)),
      longestMs: milliseconds(histogram.max),
    };
    histogram.reset();
    // Whole at once: the reader waits for the name.
    writeFileSync(`${file}.part`, JSON.stringify(found));
    renameSync(`${file}.part`, file);
  });
}
