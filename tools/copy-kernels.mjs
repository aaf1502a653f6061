// The CUDA device compiles its kernels from source on the user's machine: the compiler copies no .cu files to dist/, so this does.
import { cpSync, rmSync } from 'node:fs';

const kernels = 'device/cuda/kernels';
rmSync(`dist/${kernels}`, { recursive: true, force: true });
cpSync(`src/${kernels}`, `dist/${kernels}`, { recursive: true });
