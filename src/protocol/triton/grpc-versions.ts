import { RepositoryError } from '../../repository/errors.ts';

/** @throws RepositoryError INVALID_ARGUMENT for a negative version, which inside the server is the latest; others the repository reads */
export function checkVersion(version: string): void {
  if (!/^\s*-\d/.test(version)) return;
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    `invalid model version specified '${version.slice(0, 40)}' , version should be an integral value > 0`,
  );
}
