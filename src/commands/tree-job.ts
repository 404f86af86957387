import { EXIT } from '../base/exit.ts';
import { AWS_ENVIRONMENT } from '../plan/settings.ts';
import type { Io } from './call.ts';

export async function treeJob(io: Io): Promise<number> {
  // Not the app: what a helper loads it holds in memory beside the files.
  const [{ readSettings }, { openDestination }, { treeJobMain }] = await Promise.all([
    import('../app/settings.ts'),
    import('../app/destinations.ts'),
    import('../trees/job.ts'),
  ]);
  const open = (given: Record<string, string>) => {
    // Where the SDK looks for a profile or role. The key itself is not put where programs inherit it.
    for (const name of AWS_ENVIRONMENT) if (given[name]) io.env[name] = given[name];
    const settings = readSettings({ ...io.env, ...given });
    return { destination: openDestination(settings, { env: io.env, hurry: io.signal }), keys: settings.keys };
  };
  await treeJobMain(io.stdin, io.out, open, io.signal);
  return EXIT.done;
}
