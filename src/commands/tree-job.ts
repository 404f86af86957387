import { EXIT } from '../base/exit.ts';
import { AWS_ENVIRONMENT } from '../plan/values/aws-environment.ts';
import type { Io } from './call.ts';

export async function treeJob(io: Io): Promise<number> {
  // Loads less than the app, because a helper needs its memory for the files.
  const [{ readSettings }, { openDestination }, { treeJobMain }] = await Promise.all([
    import('../app/settings.ts'),
    import('../app/destinations.ts'),
    import('../trees/job.ts'),
  ]);
  const open = (given: Record<string, string>) => {
    // The SDK looks here for a profile or role. The key itself stays out of the environment, which programs inherit.
    for (const name of AWS_ENVIRONMENT) if (given[name]) io.env[name] = given[name];
    const settings = readSettings({ ...io.env, ...given });
    return { destination: openDestination(settings, { env: io.env, hurry: io.signal }), keys: settings.keys };
  };
  await treeJobMain(io.stdin, io.out, open, io.signal);
  return EXIT.done;
}
