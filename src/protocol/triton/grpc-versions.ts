import { RepositoryError } from '../../repository/errors.ts';

/** @throws RepositoryError INVALID_ARGUMENT in tritonserver's words, which quote the C++ function at fault */
export function checkVersion(version: string): void {
  if (version === '' || /^[1-9]\d*$/.test(version)) return;
  const isNumber = /^-?\d+$/.test(version);
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    `failed to get model version from specified version string '${version}'${isNumber ? '' : ' (details: stol)'}, ` +
      'version should be an integral value > 0',
  );
}
