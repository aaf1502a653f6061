import { Command } from 'commander';
import { packageVersion } from '../base/package-version.ts';
import { engineFormatVersion } from '../builder/manifest.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';

/** `nereid version` */
export function createCommand(): Command {
  return new Command()
    .description(
      "Prints Nereid's version, the engine format it reads, and the ggml release and Node it runs on.",
    )
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const versions = {
        nereid: packageVersion(),
        engineFormat: engineFormatVersion,
        ggml: installedGgmlRelease() ?? 'not installed',
        node: process.versions.node,
        platform: `${process.platform}-${process.arch}`,
      };
      if (options.json) console.log(JSON.stringify(versions, undefined, 2));
      else
        for (const [name, version] of Object.entries(versions)) console.log(`${name.padEnd(13)}${version}`);
    });
}
