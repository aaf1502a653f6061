import { assert, definite } from '../../base/errors.ts';
import type { DevicePointer } from './driver.ts';

/** What values between ops are stored as: a model's are all of one of these. Logits, norms and biases are float32. */
export type ActivationType = 'f32' | 'f16' | 'bf16';

/** How elements are stored on the GPU. Rows of e4m3 (8 bits: sign, 4 of exponent, 3 of mantissa) go with a float32 scale each. */
export type ElementType = ActivationType | 'e4m3';

/** Bytes of an element. */
export function elementBytes(type: ElementType): number {
  return type === 'f32' ? 4 : type === 'e4m3' ? 1 : 2;
}

/**
 * A piece of GPU memory that a program writes: placed by {@link placeRegions} so that regions whose lives do not overlap share
 * addresses. Lives are numbers of the program's operations.
 */
export interface Region {
  readonly bytes: number;
  firstUse: number;
  lastUse: number;
  /** Offset in the arena, once placed; or an address of its own where it is not the arena's. */
  offset?: number;
  readonly address?: DevicePointer;
}

/** Rows of `width` elements, `stride` elements apart, `offset` elements into a region. */
export interface View {
  readonly region: Region;
  readonly offset: number;
  readonly rows: number;
  readonly width: number;
  readonly stride: number;
  readonly type: ElementType;
}

/** Whether rows follow each other without gaps. */
export function isContiguous(view: View): boolean {
  return view.stride === view.width || view.rows <= 1;
}

/** A view of memory that no program places: weights, inputs. */
export function fixedView(address: DevicePointer, rows: number, width: number, type: ElementType): View {
  const region: Region = { bytes: 0, firstUse: 0, lastUse: 0, address };
  return { region, offset: 0, rows, width, stride: width, type };
}

const regionAlignment = 256;

/**
 * Places regions in one arena: each at the lowest offset that no region alive at the same time covers. Quadratic in the regions of a
 * program, which are a few hundred.
 * @returns the arena's bytes
 */
export function placeRegions(regions: readonly Region[]): number {
  const placed: { region: Region; start: number; end: number }[] = [];
  let total = 0;
  for (const region of regions) {
    const size = Math.ceil(region.bytes / regionAlignment) * regionAlignment;
    const alive = placed
      .filter(({ region: other }) => other.firstUse <= region.lastUse && region.firstUse <= other.lastUse)
      .sort((a, b) => a.start - b.start);
    let start = 0;
    for (const other of alive) {
      if (other.start >= start + size) break;
      start = Math.max(start, other.end);
    }
    region.offset = start;
    placed.push({ region, start, end: start + size });
    total = Math.max(total, start + size);
  }
  return total;
}

/** The address of a view's first element. */
export function addressOf(view: View, arena: DevicePointer): DevicePointer {
  const { region, offset, type } = view;
  const base = region.address ?? arena + definite(region.offset, 'a placed region');
  assert(base > 0, 'an address');
  return base + offset * elementBytes(type);
}
