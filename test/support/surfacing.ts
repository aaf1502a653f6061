/** Runs `body` and resolves with what surfaced meanwhile as an uncaught error; the test runner does not hear of it. */
export async function surfacing(body: () => Promise<void>): Promise<unknown[]> {
  const surfaced: unknown[] = [];
  process.setUncaughtExceptionCaptureCallback((error) => surfaced.push(error));
  try {
    await body();
    // Microtasks of the last event.
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.setUncaughtExceptionCaptureCallback(null);
  }
  return surfaced;
}
