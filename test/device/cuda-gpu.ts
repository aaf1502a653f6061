import { loadDriver } from '../../src/device/cuda/driver.ts';

/** Why there is no GPU to test on; undefined where there is one. */
export function missingGpu(): string | undefined {
  try {
    loadDriver();
    return undefined;
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}
