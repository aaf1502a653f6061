import { type Driver, type Handle, handleFrom } from './driver.ts';

/** `CU_STREAM_CAPTURE_MODE_RELAXED`: other threads of the process (libuv's) may use the driver meanwhile. */
const relaxed = 2;

/** Work recorded once from a stream and replayed by one call. */
export class CapturedGraph {
  readonly #driver: Driver;
  readonly #executable: Handle;

  /** @param queue queues the work on `stream`; nothing of it runs now */
  constructor(driver: Driver, stream: Handle, queue: () => void) {
    this.#driver = driver;
    driver.cuStreamBeginCapture_v2(stream, relaxed);
    let graph: Handle;
    try {
      queue();
    } catch (thrown) {
      // An open capture would poison the stream.
      const abandoned = handleFrom((out) => driver.cuStreamEndCapture(stream, out));
      if (abandoned !== 0n) driver.cuGraphDestroy(abandoned);
      throw thrown;
    }
    graph = handleFrom((out) => driver.cuStreamEndCapture(stream, out));
    this.#executable = handleFrom((out) => driver.cuGraphInstantiateWithFlags(out, graph, 0));
    driver.cuGraphDestroy(graph);
  }

  launch(stream: Handle): void {
    this.#driver.cuGraphLaunch(this.#executable, stream);
  }

  close(): void {
    this.#driver.cuGraphExecDestroy(this.#executable);
  }
}
